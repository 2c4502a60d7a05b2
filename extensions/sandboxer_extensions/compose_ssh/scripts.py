"""
The commands that run on a host: constant POSIX sh, everything variable arrives as an argument.

Every changing script runs under a lock per sandbox that lies outside the workspace, because a
command of a controller that died goes on by itself on the host: a second `up` beside it leaves
half of each, a `down` beside it leaves containers behind (measured, `docs/compose.md`). `flock -o`
keeps the lock out of the hands of the containers' monitors, which would hold it for ever.

Exit statuses 75 to 78 are ours, see `LOCKED_STATUS` and the following.
"""

from __future__ import annotations

from sandboxer.extension import LABEL_ENVIRONMENT, LABEL_SPEC_HASH, LABEL_UID

LOCKED_STATUS = 75
"""Another command for this sandbox is still running."""
FOREIGN_STATUS = 76
"""What lies at the workspace's path does not carry this sandbox's uid."""
ESCAPE_STATUS = 77
"""A path in the repository leads out of it; stdout names it."""
REMAINS_STATUS = 78
"""Something could not be removed; stderr says why."""

# $1 work root, $2 seconds to wait for the lock, $3 short id, $4 script, then its arguments.
LOCKED = f"""
umask 077
mkdir -p -- "$1/.locks" || exit 1
exec flock -o -E {LOCKED_STATUS} -w "$2" -- "$1/.locks/$3" sh -c "$4" sandboxer "$@"
"""

# The common head: root, id, ws, uid; leaves the rest of the arguments.
_HEAD = f"""
umask 077
root=$1 id=$3 uid=$5; shift 5
ws=$root/$id
names_uid() {{
    [ -f "$1" ] && [ ! -L "$1" ] && grep -qE "\\"{LABEL_UID}\\": ?\\"$uid\\"" "$1"
}}
# The document that runs says whose it is too, when the marker was damaged.
owned() {{
    [ -d "$ws" ] && [ ! -L "$ws" ] &&
    {{ names_uid "$ws/.sandboxer.json" || names_uid "$ws/compose.yaml"; }}
}}
"""

# podman-compose makes services depend on each other in podman's eyes, which then refuses to remove
# one before the other; docker knows neither.
_FORCE = 'force=-f; [ "$engine" != podman ] || force="-f --depend"'

# NOTE: podman that is killed while it makes a container leaves its storage behind: without labels, in
# no list but the external one, and for ever in the way of a container of that name.
_REMNANTS = r"""
remnants() {
    [ "$engine" != podman ] ||
        "$engine" ps -a --external --format '{{.ID}} {{.Status}} {{.Names}}' 2>/dev/null |
        sed -n "s/^\([0-9a-f]*\) Storage ${id}[_-].*/\1/p"
}
"""

# stdin: tar archive of the workspace's own files. $1 digest of what should be uploaded.
# Prints `upload` when that has to be done.
PREPARE = (
    _HEAD
    + f"""
digest=$1; shift
rm -rf -- "$root/.new-$id".*
new=$(mktemp -d "$root/.new-$id.XXXXXX") && tar -x -f - -C "$new" || exit 1
if [ ! -e "$ws" ] && [ ! -L "$ws" ]; then
    : >"$new/.fresh" && mkdir "$new/repo" && mv -T -- "$new" "$ws" || exit 1
else
    owned || {{ rm -rf -- "$new"; exit {FOREIGN_STATUS}; }}
    for file in manifest.json compose.yaml secrets.env .sandboxer.json; do
        mv -f -- "$new/$file" "$ws/$file" || exit 1
    done
    rmdir -- "$new"
    # NOTE: what was copied is gone with the directory, and containers still hold the old one.
    [ -d "$ws/repo" ] ||
        {{ : >"$ws/.fresh" && rm -f -- "$ws/.uploaded" && mkdir "$ws/repo"; }} || exit 1
fi
[ "$(cat "$ws/.uploaded" 2>/dev/null)" = "$digest" ] || [ -z "$digest" ] || echo upload
"""
)

# $1 engine, $2 environment, $3 spec hash, $4 grace in seconds, $5 time limit in seconds, $6 ids of
# containers to make anew, $7 number of paths, the paths, then the compose command. Prints the end
# of what it printed.
_UP_BODY = f"""
engine=$1 environment=$2 hash=$3 grace=$4 limit=$5 anew=$6 paths=$7; shift 7
{_FORCE}
[ -z "$digest" ] || printf %s "$digest" >"$ws/.uploaded"
rm -f -- "$ws/.suspended"
repo=$(readlink -f -- "$ws/repo")
while [ "$paths" -gt 0 ]; do
    case $(readlink -m -- "$1" 2>/dev/null || readlink -f -- "$1") in
        "$repo" | "$repo"/*) ;;
        *) printf '%s\\n' "$1"; exit {ESCAPE_STATUS} ;;
    esac
    shift; paths=$((paths - 1))
done
list() {{
    "$engine" ps -q "$@" --filter "label={LABEL_UID}=$uid" \\
        --filter "label={LABEL_ENVIRONMENT}=$environment"
}}
all=$(list -a) || exit 1
same=" $(list -a --filter "label={LABEL_SPEC_HASH}=$hash" | tr '\\n' ' ')"
old=
for container in $all; do
    case $same in *" $container "*) ;; *) old="$old $container" ;; esac
done
# Ids come from the whole list in full and from this one cut short.
for container in $anew; do
    for one in $all; do
        case $container in "$one"*) old="$old $one" ;; esac
    done
done
[ ! -e "$ws/.fresh" ] || old=$all
if [ -n "$old" ]; then
    [ "$grace" = 0 ] || "$engine" stop -t "$grace" $old >/dev/null 2>&1
    "$engine" kill $old >/dev/null 2>&1
    "$engine" rm $force $old >/dev/null 2>&1
fi
rm -f -- "$ws/.fresh"
# NOTE: kept until there is a new one, to tell which data was lost meanwhile.
[ ! -f "$ws/.made" ] || mv -f -- "$ws/.made" "$ws/.made.before"
paused=$(list --filter status=paused)
[ -z "$paused" ] || "$engine" unpause $paused >/dev/null 2>&1
cd "$ws" || exit 1
timeout -k 5 "$limit" env -i PATH="$PATH" HOME="$HOME" \\
    ${{XDG_RUNTIME_DIR:+XDG_RUNTIME_DIR="$XDG_RUNTIME_DIR"}} "$@" >up.log 2>&1 </dev/null
echo "exit status $?"
tail -c 3000 up.log
! grep -qF 'already in use' up.log || "$engine" rm -f $(remnants) >/dev/null 2>&1
exit 0
"""

UP = PREPARE + _REMNANTS + _UP_BODY
"""Files and `up` in one round trip, for a sandbox without a repository."""

UP_AFTER_UPLOAD = (
    _HEAD + f"owned || exit {FOREIGN_STATUS}\ndigest=$1; shift\n" + _REMNANTS + _UP_BODY
)
"""The second half, once the repository has been copied."""

_LIST = f"""
engine=$1 environment=$2 grace=$3
{_FORCE}
list() {{
    "$engine" ps -aq --filter "label={LABEL_UID}=$uid" \\
        --filter "label={LABEL_ENVIRONMENT}=$environment"
}}
"""

# $1 engine (may be empty), $2 environment, $3 grace in seconds.
REMOVE = (
    _HEAD
    + _LIST
    + _REMNANTS
    + f"""
# NOTE: one filter at a time; for volumes, podman takes two as "either", which names others' data.
mine() {{
    of_uid=$("$engine" "$1" ls -q --filter "label={LABEL_UID}=$uid") || return 1
    of_environment=$("$engine" "$1" ls -q --filter "label={LABEL_ENVIRONMENT}=$environment") ||
        return 1
    for name in $of_uid; do
        printf '%s\\n' "$of_environment" | grep -xF -e "$name"
    done
    return 0
}}
if [ -n "$engine" ]; then
    containers=$(list) || exit 1
    if [ -n "$containers" ]; then
        "$engine" unpause $containers >/dev/null 2>&1
        if [ "$grace" != 0 ]; then
            for container in $containers; do
                "$engine" stop -t "$grace" "$container" >/dev/null 2>&1 &
            done
            wait
        fi
        # NOTE: -v takes anonymous volumes, which carry no label; kill first, rm waits ten seconds.
        "$engine" kill $containers >/dev/null 2>&1
        problem=$("$engine" rm $force -v $containers 2>&1 >/dev/null)
        containers=$(list) || exit 1
        [ -z "$containers" ] || {{ printf '%s\n' "$problem" >&2; exit {REMAINS_STATUS}; }}
    fi
    left=$(remnants)
    [ -z "$left" ] || "$engine" rm -f $left >/dev/null || exit {REMAINS_STATUS}
    for kind in network volume; do
        names=$(mine "$kind") || exit 1
        [ -z "$names" ] || "$engine" "$kind" rm $names >/dev/null || exit {REMAINS_STATUS}
    done
    images=$("$engine" images --format '{{{{.Repository}}}}:{{{{.Tag}}}}' | grep "^localhost/${{id}}_")
    [ -z "$images" ] || "$engine" rmi -f $images >/dev/null 2>&1
fi
rm -rf -- "$root/.new-$id".*
if [ -e "$ws" ] || [ -L "$ws" ]; then
    owned || exit {FOREIGN_STATUS}
    real=$(readlink -f -- "$ws")
    if grep -qF " $real/" /proc/self/mountinfo; then
        echo "something is mounted below $ws" >&2; exit {REMAINS_STATUS}
    fi
    # NOTE: the marker goes last, or a removal cut short would leave a workspace nobody claims.
    names_uid "$ws/.sandboxer.json" || cp -f -- "$ws/compose.yaml" "$ws/.sandboxer.json" || exit 1
    strip() {{ find "$ws" -mindepth 1 -maxdepth 1 ! -name .sandboxer.json -exec rm -rf -- {{}} +; }}
    if ! strip 2>/dev/null; then
        # Files of a rootless container belong to users that only its user namespace can name.
        [ "$engine" = podman ] && [ "$(id -u)" != 0 ] &&
            podman unshare find "$ws/repo" -mindepth 1 -delete
        strip || exit {REMAINS_STATUS}
    fi
    rm -rf -- "$ws" || exit {REMAINS_STATUS}
fi
rm -f -- "$root/.locks/$id"
"""
)

# $1 engine, $2 environment, $3 grace in seconds.
SUSPEND = (
    _HEAD
    + _LIST
    + f"""
owned || exit {FOREIGN_STATUS}
: >"$ws/.suspended" || exit 1
containers=$(list) || exit 1
[ -z "$containers" ] && exit 0
"$engine" unpause $containers >/dev/null 2>&1
for container in $containers; do
    "$engine" stop -t "$grace" "$container" >/dev/null 2>&1 &
done
wait
"""
)

RESUME = (
    _HEAD
    + _LIST
    + f"""
owned || exit {FOREIGN_STATUS}
rm -f -- "$ws/.suspended"
containers=$(list) || exit 1
[ -z "$containers" ] || "$engine" start $containers 2>&1 | tail -c 3000
exit 0
"""
)

# $1 work root, $2 short id or empty for all. One awk for any number of workspaces. A line is
#   + MARKER or - MARKER (suspended)    = MANIFEST (of one that is asked for alone)
#   made NAME RECORD    before NAME RECORD (what follows is not made yet)    empty NAME (has no `repo`)
#   limit NAME ID FIELD WANTED|SEEN    whole - -
# A limit is printed when it is not what RECORD found.
WORKSPACES = """
cd "$1" || exit 1
plain() { [ -f "$1" ] && [ ! -L "$1" ]; }
{
    for ws in ${2:-sbx-*}; do
        [ -d "$ws" ] && [ ! -L "$ws" ] || continue
        if [ -f "$ws/.sandboxer.json" ]; then
            if [ -e "$ws/.suspended" ]; then echo "- $ws"; else echo "+ $ws"; fi
            [ -z "$2" ] || ! plain "$ws/manifest.json" || echo "= $ws"
        fi
        if plain "$ws/.made"; then echo "made $ws"
        elif plain "$ws/.made.before"; then echo "before $ws"; fi
        [ -d "$ws/repo" ] || echo "empty $ws"
    done
    echo whole
} | awk '
    function first_line(path) {
        text = ""
        if ((getline text < path) < 0) text = ""
        close(path)
        sub(/\\r$/, "", text)
        return substr(text, 1, 16384)
    }
    $1 == "+" || $1 == "-" { print $1, first_line($2 "/.sandboxer.json") }
    $1 == "=" { print $1, first_line($2 "/manifest.json") }
    $1 == "empty" { print $1, $2, "-" }
    $1 == "before" {
        record = $2 "/.made.before"
        if ((getline line < record) > 0) print $1, $2, substr(line, 1, 65536)
        close(record)
    }
    $1 == "made" {
        record = $2 "/.made"
        if ((getline line < record) > 0) print "made", $2, substr(line, 1, 65536)
        for (lines = 0; lines < 1024 && (getline line < record) > 0; lines++) {
            if (split(line, part, " ") < 5 || part[1] != "limit") continue
            if (part[4] !~ /^\\/sys\\/fs\\/cgroup\\// || part[4] ~ /\\.\\./) continue
            wanted = substr(line, length(part[1] part[2] part[3] part[4]) + 5)
            seen = first_line(part[4])
            if (seen != "" && seen != wanted) print "limit", $2, part[2], part[3], wanted "|" seen
        }
        close(record)
    }
    $1 == "whole" { print "whole - -" }
'
"""

# $1 engine, $2 and $3 labels to filter by. Three JSON lists: containers, networks, volumes.
INVENTORY = """
engine=$1; shift
list() {
    kind=$1 word=$2; shift 2
    names=$("$engine" $kind $word "$@") || exit 1
    [ -n "$names" ] || { echo '[]'; return; }
    case $kind in container) "$engine" inspect $names ;; *) "$engine" $kind inspect $names ;; esac
}
set -- ${1:+--filter "label=$1"} ${2:+--filter "label=$2"}
list container 'ls -aq' "$@" && list network 'ls -q' "$@" && list volume 'ls -q' "$@"
"""

# Ids. Prints `ID SECONDS` for each time the kernel killed something in one of them for its memory, in
# seconds since 1970; nothing when its log may not be read. Podman does not know it everywhere: on
# cgroup v1 and kernels without `memory.oom_control` its OOMKilled is always false.
MEMORY_KILLS = """
now=$(date +%s) up=$(cut -d. -f1 /proc/uptime) || exit 0
dmesg 2>/dev/null | grep -a oom-kill: | tail -n 64 | while read -r line; do
    stamp=${line#*[} stamp=${stamp%%.*}
    stamp=$(printf %s "$stamp" | tr -cd 0-9)
    for id; do
        case $line in *"$id"*) [ -z "$stamp" ] || echo "$id $((now - up + stamp))" ;; esac
    done
done
"""

# $1 engine, $2 seconds for one check, $3 seconds after which none is begun, then ids. Runs each
# container's health check once, four at a time; in any order, so that each has its turn.
HEALTH = """
engine=$1 limit=$2 end=$(($(date +%s) + $3)); shift 3
running=0
for container in $(shuf -e -- "$@"); do
    [ "$(date +%s)" -lt "$end" ] || break
    timeout "$limit" "$engine" healthcheck run "$container" >/dev/null 2>&1 </dev/null &
    running=$((running + 1))
    [ $((running % 4)) -ne 0 ] || wait
done
wait
"$engine" inspect --format '{{.Id}} {{.State.Health.Status}}' "$@"
"""

# $@: ids of containers; stdin: what was made, as one line. Keeps it with a line
#   limit ID FIELD PATH VALUE
# for each file of a cgroup that limits one of them. Limits are read below /sys/fs/cgroup in both of its
# layouts, in one walk; the scope of podman's monitor has the id in its name too.
RECORD = (
    _HEAD
    + f"""
owned || exit {FOREIGN_STATUS}
new=$ws/.made.new
cat >"$new" || exit 1
limits() {{
    [ $# -gt 0 ] || return 0
    count=$#
    while [ "$count" -gt 0 ]; do
        set -- "$@" -o -name "*$1*"; shift; count=$((count - 1))
    done
    shift
    find /sys/fs/cgroup -type d ! -name '*conmon*' \\( "$@" \\) -prune 2>/dev/null |
        while read -r dir; do
            id=${{dir##*/}} id=${{id%.scope}} id=${{id##*-}}
            for file in memory:memory.max memory:memory.limit_in_bytes \\
                    pids:pids.max cpu:cpu.max cpu:cpu.cfs_quota_us; do
                path=$dir/${{file#*:}}
                {{ read -r value <"$path"; }} 2>/dev/null || continue
                printf 'limit %s %s %s %s\\n' "$id" "${{file%%:*}}" "$path" "$value"
            done
        done
}}
limits "$@" >>"$new"
mv -f -- "$new" "$ws/.made" && rm -f -- "$ws/.made.before"
"""
)
