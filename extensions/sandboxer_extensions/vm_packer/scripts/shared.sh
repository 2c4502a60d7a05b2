# shared.sh: what every script shares. POSIX sh; nothing but busybox is needed on the machine.
# Arguments of each script begin with INDEX DEFAULT_ROOT SHORT_ID UID ENVIRONMENT.
# On a slow machine a process costs 7 ms, so what the shell can do itself it does itself.
set -eu
umask 077
export LC_ALL=C
index=$1 default_root=$2 short=$3 uid=$4 environment=$5
shift 5
# Every process of the workspace is born with SANDBOXER_ID=$id, or stands in its directory.
id=$environment/$uid
newline='
'

# The exit statuses are sysexits.h: 65 a person must act, 75 it may work later.
terminal() { printf '%s\n' "$*" >&2; exit 65; }
transient() { printf '%s\n' "$*" >&2; exit 75; }

# Print the roots in which workspaces were made; the index names them with `:` for `/`. A name that
# we do not write is passed over, as it could be split or be a pattern.
noted() {
    for entry in "$index"/:*; do
        case ${entry##*/} in *[!A-Za-z0-9_.:+-]*) continue ;; esac
        # shellcheck disable=SC2086 - the parts are wanted one by one
        [ ! -f "$entry" ] || (IFS=: && set -- ${entry##*/} && IFS=/ && printf '%s\n' "$*")
    done
}

# Print each root that holds or held workspaces, the default one first.
roots() {
    printf '%s\n' "$default_root"
    for root_ in $(noted); do
        [ "$root_" = "$default_root" ] || printf '%s\n' "$root_"
    done
}

# End the script when PATH may be there and cannot be read: that is no proof that nothing is there.
readable() {
    near=$1
    until [ -z "$near" ] || [ -e "$near" ]; do near=${near%/*}; done
    if [ "$near" = "$1" ]; then
        [ -r "$1" ] && { [ ! -d "$1" ] || [ -x "$1" ]; }
    else
        [ -x "${near:-/}" ]
    fi || transient "Cannot tell what is in $1: this account may not read ${near:-/}."
}

# End the script when a root that was used, or a directory of ours in it, cannot be looked into.
# For one uid it does not matter what the workspaces of others are like.
readable_roots() {
    readable "$index"
    for root_ in $(noted); do
        [ ! -L "$root_" ] || transient "The root $root_ is a symbolic link now; workspaces were made in a directory there."
        readable "$root_"
        for below in "$root_"/* "$root_"/.sbx-*; do
            [ -d "$below" ] && [ -O "$below" ] && [ ! -L "$below" ] || continue
            case $uid/${below##*/} in "$uid/$short") ;; ?*/sbx-*) continue ;; esac
            readable "$below"
            readable "$below/.sandboxer.json"
        done
    done
}

# Print the directories of ROOT with a marker, finished or not. No link is followed, and a marker is
# at most 16 KiB, more than twice what our labels can take.
marked() {
    [ -d "$1" ] && [ ! -L "$1" ] || return 0
    find "$1" -mindepth 2 -maxdepth 2 -name .sandboxer.json -type f -size -33 2>/dev/null |
        while read -r found; do
            found=${found%/*}
            case ${found##*/} in *[!A-Za-z0-9_.+-]*) continue ;; esac
            printf '%s\n' "$found"
        done
}

# Set line to the first line of a marker, empty when there is none.
read_marker() {
    line=
    [ -L "$1" ] || [ -L "$1/.sandboxer.json" ] || [ ! -f "$1/.sandboxer.json" ] ||
        { read -r line <"$1/.sandboxer.json"; } 2>/dev/null || :
}

# Print the manifest kept in FILE when one sandbox is looked at: `manifest NAME JSON`. No link is
# followed; it is one line of at most 16 KiB.
print_manifest() {
    [ -n "$uid" ] && [ -f "$2" ] && [ ! -L "$2" ] || return 0
    printf 'manifest %s %s\n' "$1" "$(head -c 16384 "$2" | head -n 1)"
}

# Keep the manifest in FILE, by way of NEW in the same file system.
keep_manifest() {
    printf '%s\n' "$manifest" >"$2" && mv -f "$2" "$1"
}

# Tell whether the marker in `line` carries our uid; refuse what another installation owns.
is_ours() {
    case $line in
    *"\"sandboxer.dev/uid\":\"$uid\""*"\"sandboxer.dev/environment\":\"$environment\""*) ;;
    *"\"sandboxer.dev/environment\":\"$environment\""*"\"sandboxer.dev/uid\":\"$uid\""*) ;;
    *"\"sandboxer.dev/uid\":\"$uid\""*)
        terminal "$1 belongs to another installation, or was damaged."
        ;;
    *) return 1 ;;
    esac
}

# Print every directory that is ours. A person's copy of one has its marker under another name.
ours() {
    readable_roots
    for found in $(for root_ in $(roots); do marked "$root_"; done); do
        read_marker "$found"
        case ${found##*/},$line in
        ".sbx-new-$short."* | ".sbx-gone-$short."*) ;;
        *",{\"path\":\"$found\","*) ;;
        *) continue ;;
        esac
        if is_ours "$found"; then printf '%s\n' "$found"; fi
    done
}

# Enter ROOT through real directories only; it must be ours alone.
enter_root() {
    rest=${1#/}/
    cd /
    while [ -n "$rest" ]; do
        part=${rest%%/*} && rest=${rest#*/}
        [ ! -L "./$part" ] || terminal "$part on the way to the root $1 is a symbolic link."
        [ -d "./$part" ] || [ -n "$rest" ] || mkdir "./$part" 2>/dev/null || [ -d "./$part" ] ||
            terminal "The root $1 is not there, and this account cannot make it."
        cd -P "./$part" 2>/dev/null || terminal "The root $1 cannot be entered at $part."
    done
    [ "$PWD" = "$1" ] || terminal "The root $1 leads somewhere else."
    [ -O . ] || terminal "The root $1 belongs to another account."
    # shellcheck disable=SC2012 - mode bits, and stat differs between systems
    case $(ls -ld .) in
    ?????w* | ????????w*) terminal "The root $1 can be written to by other accounts." ;;
    esac
}

# The lock is on the root's inode: the kernel frees it when its holder dies. Not every busybox has
# flock, and none has its -w; without it a birth is still decided by one rename.
lock() {
    command -v flock >/dev/null || return 0
    exec 9<.
    tries=0
    until flock -n 9; do
        [ "$tries" -lt 300 ] || transient "Another command works in $PWD."
        tries=$((tries + 1))
        sleep 0.1
    done
}

# Print the pids of everything that was born with the line MARK in its environment, or stands in
# DIRECTORY (when it is not empty). busybox grep ends at a NUL, hence tr. One reading finds all;
# each born with it is looked at once more, as a hostile environment may hold what looks like a
# header.
members() {
    {
        head -c 131072 /proc/[0-9]*/environ /dev/null 2>/dev/null || :
        # shellcheck disable=SC2012 - /proc holds no other names
        [ -z "$2" ] || ls -ld /proc/[0-9]*/cwd 2>/dev/null || :
    } | tr '\0' '\n' | awk -v mark="$1" -v dir="$2" '
        /^==> \/proc\/[0-9]+\/environ <==$/ { split($2, part, "/"); pid = part[3]; next }
        $0 == mark { print "born", pid; next }
        dir != "" && /^l.* \/proc\/[0-9]+\/cwd -> / {
            at = index($0, "/cwd -> "); place = substr($0, at + 8); sub(/ \(deleted\)$/, "", place)
            head = substr($0, 1, at - 1); sub(/.*\/proc\//, "", head)
            if (place == dir || index(place, dir "/") == 1) print "stands", head
        }
    ' | while read -r how pid; do
        [ "$how" = stands ] || { tr '\0' '\n' <"/proc/$pid/environ" | grep -qxF "$1"; } 2>/dev/null ||
            continue
        printf '%s\n' "$pid"
    done
}

# Kill the members of MARK and DIRECTORY until two looks find none: a process that is just becoming
# another program shows no environment. Two seconds are plenty for SIGKILL.
kill_members() {
    rounds=0 empty=0
    while [ "$empty" -lt 2 ]; do
        pids=$(members "$1" "$2")
        if [ -z "$pids" ]; then empty=$((empty + 1)) && continue; fi
        [ "$rounds" -lt 100 ] || transient "Processes do not die:" $pids
        empty=0 rounds=$((rounds + 1))
        # shellcheck disable=SC2086 - several pids
        kill -s KILL $pids 2>/dev/null || :
        sleep 0.02
    done
}

# Remove births of ours in this root that were cut short. Where there is no flock one may be under
# way: after a rename it fails, and does not become a workspace that lost its marker.
clear_births() {
    for half in .sbx-new-"$short".*; do
        gone=./.sbx-gone-$short.$$
        if [ -d "$half" ] && mv -T "./$half" "$gone" 2>/dev/null; then rm -rf -- "$gone"; fi
    done
}

# Set free to the KiB that are free here.
read_free() {
    free=$(df -Pk .)
    # The last line, as a long device name makes some df break the first; its fourth word.
    # shellcheck disable=SC2086 - words are wanted
    set -- ${free##*"$newline"}
    free=$4
}

# Tell whether builds may be here: mode build keeps them beside the index.
tell_builds() {
    [ ! -e "${index%/*}/builds" ] || echo builds
}

# Take the rights to DIRECTORY and its marker back, which programs in it may have taken away.
regain() {
    [ -d "$1" ] && [ -O "$1" ] && [ ! -L "$1" ] || return 0
    { [ -r "$1" ] && [ -x "$1" ] && [ -w "$1" ]; } || chmod u+rwx "$1"
    found=$1/.sandboxer.json
    [ -r "$found" ] || [ -L "$found" ] || [ ! -O "$found" ] || chmod u+r "$found"
}

# Remove DIRECTORY. The marker goes last: until then the rest is still found, and found to be ours.
clear_away() {
    gone_=$1
    rest() { find "$gone_" -mindepth 1 -maxdepth 1 ! -name .sandboxer.json -exec "$@" {} +; }
    # NOTE: chmod -R would follow a link that was planted at the top.
    rest rm -rf -- 2>/dev/null ||
        { find "$gone_" -type d ! -perm -700 -exec chmod u+rwx {} \; && rest rm -rf --; }
    rm -rf -- "$gone_"
}

# Append a line to the log of a workspace.
note() {
    printf '%s sandboxer: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$2" >>"$1/.sandboxer/log"
}
