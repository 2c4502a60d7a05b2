# exec.sh DIRECTORY FILE LOGGED COMMAND...: run COMMAND in the work directory.
# Standard input, output and error are the user's; with LOGGED `yes`, what is printed is logged too.
# It is born with its marks, so that who removes FILE and then looks for them misses nothing: it
# comes too late to open FILE, or is found.
set -eu
umask 077
dir=$1 file=$2 logged=$3
shift 3
exec 3<"$dir/.sandboxer/$file"
rm -f "$dir/.sandboxer/$file"
cd "$dir/work"
# The environment is read by the last shell only, so that a PATH or LD_PRELOAD meets no program of ours.
inner='umask 022; eval "$(cat <&3)"; exec 3<&-; exec "$@"'
[ "$logged" = yes ] || exec sh -c "$inner" sandboxer "$@"

log=$dir/.sandboxer/log out=$dir/.sandboxer/$file.out err=$dir/.sandboxer/$file.err
mkfifo "$out" "$err"
# They end with the last writer; opened by name, so they are there until both ends are.
tee -a "$log" <"$out" 3<&- &
tee -a "$log" <"$err" >&2 3<&- &
status=0
sh -c "$inner" sandboxer "$@" >"$out" 2>"$err" || status=$?
wait
rm -f "$out" "$err"
exit "$status"
