# keeper.sh WORKSPACE RECORD LABELS LEVEL ID: parent of the sandbox's processes, outlives everybody.
# Standard input is the text to run (environment and command), file 9 the workspace's lock.
set -eu
umask 077
dir=$1 record=$2 labels=$3 level=$4
read -r stat </proc/$$/stat
# shellcheck disable=SC2086 - the fields are wanted one by one
set -- ${stat##*) }
exec 3<&0 </dev/null
read -r boot </proc/sys/kernel/random/boot_id
printf '{"pid":%s,"start":%s,"boot":"%s","level":"%s","labels":%s}\n' \
    "$$" "${20}" "$boot" "$level" "$labels" >"$record.$$"
mv -f "$record.$$" "$record"
# NOTE: not before the rename, or a crash here could start the sandbox twice.
exec 9<&-

fifo=$dir/output
rm -f "$fifo"
mkfifo "$fifo"
# The command reads its environment from file 3, so no argument shows a secret.
(enclose "$level" "$dir/work" session /bin/sh -c 'eval "$(cat <&3)"') >"$fifo" 2>&1 &
child=$!
exec 3<&- 4<"$fifo"
rm -f "$fifo"

# `log` grows to 4 MiB and then becomes `log.1`. dd ends after 64 reads so that the size is looked
# at again, and never reads more than it writes; no record read at all means the end of output.
log_bytes_max=4194304
while :; do
    count=$(dd bs=65536 count=64 2>&1 <&4 >>"$dir/log") || :
    case $count in 0+0*) break ;; esac
    size=$(wc -c <"$dir/log")
    [ "$size" -lt "$log_bytes_max" ] || mv -f "$dir/log" "$dir/log.1"
done
status=0
wait "$child" || status=$?
printf '%s\n' "$status" >"$dir/exit.new"
mv -f "$dir/exit.new" "$dir/exit"
