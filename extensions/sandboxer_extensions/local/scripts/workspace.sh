# What every script that changes something shares: names, refusals, the lock, the processes.
# Arguments of each script begin with ROOT SHORT_ID UID ENVIRONMENT.
set -eu
umask 077
export LC_ALL=C
root=$1 short=$2 uid=$3 environment=$4
shift 4
dir=$root/$short
marker=$dir/.sandboxer.json
record=$root/.processes/$short
# Every process of the sandbox is born with SANDBOXER_ID=$id, so it is found without any record.
id=$environment/$uid

# The exit statuses are sysexits.h: 65 a person must act, 75 it may work later.
terminal() { printf '%s\n' "$*" >&2; exit 65; }
transient() { printf '%s\n' "$*" >&2; exit 75; }

is_ours() {
    grep -qsF "\"sandboxer.dev/uid\":\"$uid\"" "$1" &&
        grep -qsF "\"sandboxer.dev/environment\":\"$environment\"" "$1"
}

# Refuse what does not carry exactly our uid and environment; a missing file is nobody's.
own() {
    # NOTE: looked at twice: another command may have made it, or removed it, a moment ago.
    is_ours "$1" || [ ! -e "$1" ] || is_ours "$1" || [ ! -e "$1" ] ||
        terminal "$1 belongs to another sandbox or installation, or was damaged."
}

# The lock is on the workspace's inode: the kernel frees it when its holders die.
# The keeper inherits it and lets go once its record is written (keeper.sh).
lock() {
    command -v flock >/dev/null || terminal "flock is not installed here."
    exec 9<"$dir"
    flock -w 30 9 || transient "Another command works on $dir."
    [ /proc/$$/fd/9 -ef "$dir" ] || transient "$dir was replaced meanwhile."
}

# Tell whether the recorded keeper lives; sets pid. A pid alone may have been given to another
# process since, so the start time (field 22 of proc_pid_stat(5)) and the boot must match.
alive() {
    line= stat=
    [ -f "$record" ] || return 1
    read -r line <"$record" || return 1
    pid=${line#*\"pid\":} && pid=${pid%%[!0-9]*}
    start=${line#*\"start\":} && start=${start%%[!0-9]*}
    boot=${line#*\"boot\":\"} && boot=${boot%%\"*}
    [ "$boot" = "$(cat /proc/sys/kernel/random/boot_id)" ] || return 1
    { read -r stat <"/proc/$pid/stat"; } 2>/dev/null || return 1
    # shellcheck disable=SC2086 - the fields are wanted one by one
    set -- ${stat##*) }
    [ "$1" != Z ] && [ "${20}" = "$start" ]
}

# Print the pids of everything born as this sandbox, or standing in its work directory.
members() {
    {
        grep -lsF "SANDBOXER_ID=$id" /proc/[0-9]*/environ || :
        ls -ld /proc/[0-9]*/cwd 2>/dev/null | grep -F " -> $dir/work" | sed 's/ -> .*//' || :
    } | sed -n 's|.*/proc/\([0-9]*\)/.*|\1|p' | sort -u
}

# Kill everything of the sandbox; SIGKILL needs a moment, two seconds is far more than it takes.
kill_all() {
    if alive; then kill -s KILL -- "-$pid" 2>/dev/null || :; fi
    rounds=0
    while pids=$(members) && [ -n "$pids" ]; do
        [ "$rounds" -lt 100 ] || transient "Processes of $short do not die:" $pids
        rounds=$((rounds + 1))
        kill -s KILL $pids 2>/dev/null || :
        sleep 0.02
    done
    rm -f "$record"
}
