# build_keeper.sh DIRECTORY LABELS IMAGES PACKER: parent of a build, outlives everybody.
# Standard input is the launch text: environment and options of Packer. File 5 is the mask of its
# log, file 9 the build's lock.
set -eu
umask 077
dir=$1 labels=$2 images=$3 packer=$4
# Everything of the build inherits this lock, so there is never a second one beside it.
exec 8>>"$dir/running" 3<&0 </dev/null
command -v flock >/dev/null || { echo "flock is not installed." >&2 && exit 1; }
flock -n 8 || { echo "Another build of it runs." >&2 && exit 1; }
read -r stat </proc/$$/stat
# shellcheck disable=SC2086 - the fields are wanted one by one
start=$(set -- ${stat##*) } && echo "${20}")
read -r boot </proc/sys/kernel/random/boot_id
printf '{"pid":%s,"start":%s,"boot":"%s","labels":%s}\n' "$$" "$start" "$boot" "$labels" >"$dir/run.$$"
mv -f "$dir/run.$$" "$dir/run"
# NOTE: not before the rename, or a crash here could start the build twice.
exec 9<&-

# A cancel signals the whole group. What carries Packer's output must outlive Packer, and a signal
# that is caught here, unlike one that is ignored, is not ignored by Packer.
trap : TERM INT HUP
mkfifo "$dir/raw" "$dir/out"
# What was made is kept unmasked: a path with a secret's text in it is a path all the same.
: >"$dir/listed"
listing="/^[0-9]\{1,\},[^,]*,artifact,/w $dir/listed"
# busybox has no -u; there the log comes in blocks.
unbuffered=-u
sed -u '' </dev/null 2>/dev/null || unbuffered=
# shellcheck disable=SC2086 - an option or none
(trap '' TERM INT HUP && LC_ALL=C exec sed $unbuffered -e "$listing" -f /proc/self/fd/5 <"$dir/raw" >"$dir/out") &
mask=$!
(
    exec 5<&-
    cd "$dir/template"
    exec sh -c 'eval "$(cat <&3)"; exec 3<&-; exec "$@" .' \
        sandboxer "$packer" build -machine-readable
) >"$dir/raw" 2>&1 &
child=$!
exec 3<&- 4<"$dir/out"
rm -f "$dir/raw" "$dir/out"

# `log` grows to 4 MiB and then becomes `log.1`. dd ends after 64 reads so that the size is looked
# at again, and never reads more than it writes; no record read at all means the end of output.
(
    exec 5<&-
    trap '' TERM INT HUP
    while :; do
        count=$(dd bs=65536 count=64 2>&1 <&4 >>"$dir/log") || :
        case $count in 0+0*) break ;; esac
        size=$(wc -c <"$dir/log")
        [ "$size" -lt 4194304 ] || mv -f "$dir/log" "$dir/log.1"
    done
) &
logger=$!
exec 4<&-

while :; do
    status=0
    wait "$child" || status=$?
    # A signal ends the wait and not the child.
    kill -0 "$child" 2>/dev/null || break
done
# Packer is over, and nothing that is asked to end may lose what it made.
trap '' TERM INT HUP
# What a provisioner left in the background holds the pipe; the output of Packer itself is in it.
gone() {
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
    case ${stat##*) } in Z*) return 0 ;; esac
    return 1
}
rounds=0
while [ "$rounds" -lt 30 ] && ! gone "$logger"; do
    rounds=$((rounds + 1))
    sleep 0.1
done
kill -s KILL "$mask" 2>/dev/null || :
wait "$logger" || :

# A full disk takes no log, and that is no reason to lose an image.
tell() { printf 'sandboxer: %s\n' "$*" >>"$dir/log" || :; }
masked() { printf '%s\n' "$1" | LC_ALL=C sed -f /proc/self/fd/5; }
separator=$(printf '\037')

# Print what the builders made, a line `file BUILDER ID PATH` or `id BUILDER ID` for each thing. The
# first to name a file is its builder; post-processors name it again.
made() {
    awk -F , -v OFS="$separator" '
        $3 != "artifact" || $1 !~ /^[0-9]+$/ || /[\001-\037\177]/ || /\\n/ { next }
        { value = $0; gsub(/%!\(PACKER_COMMA\)/, "\001", value)
          skip = ($5 == "file") ? 6 : 5
          for (i = 0; i < skip; i++) sub(/^[^,]*,/, "", value)
          gsub(/\001/, ",", value) }
        $5 == "builder-id" { builder = value; files = 0 }
        $5 == "id" { id = value }
        $5 == "file" && value != "" { files++; if (!(value in seen)) print "file", builder, id, value; seen[value] = 1 }
        $5 == "end" && !files && id != "" && !((builder, id) in had) { print "id", builder, id, ""; had[builder, id] = 1 }
    ' "$dir/listed"
}

# Move FILE out of the directory that goes with the sandbox, if it is there; set path to its place,
# now to where it lies until all are recorded, and shown to the path without a secret.
keep() {
    place=$(cd -P "$(dirname -- "$1")" 2>/dev/null && pwd -P) && [ ! -L "$1" ] && [ -f "$1" ] || return 1
    path=$place/${1##*/} now=$place/${1##*/}
    shown=$(masked "$path")
    case $path in "$dir/template/"*) ;; *) return 0 ;; esac
    inner=${path#"$dir/template/"}
    # Names of what we write there ourselves.
    first=${inner%%/*}
    case $first in SHA256SUMS | .sandboxer.json) inner=$first.packer${inner#"$first"} ;; esac
    path=$images/$number/$inner now=$images/.$number/$inner
    shown=$images/$number/$(masked "$inner")
    # Labelled before anything is in it, so that it is found again when this process is killed.
    mkdir -p "$(dirname -- "$now")" && printf '%s\n' "$labels" >"$images/.$number/.sandboxer.json" &&
        mv -T -- "$place/${1##*/}" "$now"
}

# Record one artifact, KIND BUILDER ID FILE.
record() {
    path= now= sum= size= shown=
    if [ "$1" = file ]; then
        keep "$4" || { tell "the artifact $(masked "$4") is not a file, or cannot be moved" && return 1; }
        tell "computing the checksum of $shown"
        sum=$(sha256sum <"$now") && sum=${sum%% *} || return 1
        size=$(wc -c <"$now") || return 1
        [ "$path" = "$now" ] || printf '%s  %s\n' "$sum" "$inner" >>"$images/.$number/SHA256SUMS" || return 1
    fi
    printf "%s$separator%s$separator%s$separator%s$separator%s$separator%s$separator%s\n" \
        "$1" "$(masked "$2")" "$(masked "$3")" "$sum" "$size" "$shown" "$path" >>"$dir/artifacts.new" || return 1
    [ -z "$sum" ] || tell "made $shown, sha256 $sum"
    [ "$shown" = "$path" ] || tell "a secret stands in that path, and is shown as ***"
}

# Record every artifact with its checksum; images stay when the sandbox goes, and when one of them
# cannot be recorded.
collect() {
    whole=0
    cd "$dir/template" || return 1
    number=1
    while [ -e "$images/$number" ] || [ -e "$images/.$number" ]; do number=$((number + 1)); done
    made >"$dir/made" && printf '' >"$dir/artifacts.new" || return 1
    while IFS=$separator read -r kind builder name file; do
        record "$kind" "$builder" "$name" "$file" || whole=1
    done <"$dir/made"
    if [ -d "$images/.$number" ]; then
        sync
        mv -T "$images/.$number" "$images/$number" || return 1
    fi
    sync "$dir/artifacts.new" 2>/dev/null || :
    mv -f "$dir/artifacts.new" "$dir/artifacts" || return 1
    return "$whole"
}
tell "Packer ended with exit status $status"
# Builders that ended well have made their images also when another one failed.
collect || [ "$status" != 0 ] || status=74
[ "$status" != 74 ] || tell "the image could not be recorded"
rm -f "$dir/listed" "$dir/made"
ended() {
    # NOTE: not with `:`, which ends the whole shell when its file cannot be made.
    { [ -e "$dir/artifacts" ] || printf '' >"$dir/artifacts"; } &&
        printf '%s\n' "$status" >"$dir/exit.new" && [ -s "$dir/exit.new" ] || return 1
    sync "$dir/exit.new" 2>/dev/null || :
    mv -f "$dir/exit.new" "$dir/exit"
}
# A build whose end is not written would be built again, and a disk that is full has room again one
# day. Whoever does not want to wait ends this process.
until ended; do
    trap - TERM
    sleep 1
done
