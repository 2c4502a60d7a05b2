# build_keeper.sh DIRECTORY LABELS IMAGES PACKER: parent of a build, outlives everybody.
# Standard input is the launch text: environment and options of Packer. File 9 is the build's lock.
set -eu
umask 077
dir=$1 labels=$2 images=$3 packer=$4
# Everything of the build inherits this lock, so there is never a second one beside it.
exec 8>>"$dir/running" 3<&0 </dev/null
command -v flock >/dev/null && flock -n 8 || { echo "Another build of it runs." >&2 && exit 1; }
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
exec 5<"$dir/mask"
rm -f "$dir/mask"
mkfifo "$dir/raw" "$dir/out"
# busybox has no -u; there the log comes in blocks.
unbuffered=-u
sed -u '' </dev/null 2>/dev/null || unbuffered=
# shellcheck disable=SC2086 - an option or none
(trap '' TERM INT HUP && LC_ALL=C exec sed $unbuffered -f /dev/fd/5 <"$dir/raw" >"$dir/out") &
mask=$!
(
    exec 5<&-
    cd "$dir/template"
    exec sh -c 'eval "$(cat <&3)"; exec 3<&-; exec "$@" .' \
        sandboxer "$packer" build -machine-readable
) >"$dir/raw" 2>&1 &
child=$!
exec 3<&- 4<"$dir/out" 5<&-
rm -f "$dir/raw" "$dir/out"

# `log` grows to 4 MiB and then becomes `log.1`. dd ends after 64 reads so that the size is looked
# at again, and never reads more than it writes; no record read at all means the end of output.
(
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

tell() { printf 'sandboxer: %s\n' "$*" >>"$dir/log"; }
separator=$(printf '\037')

# Print what the builders made, a line `file BUILDER ID PATH` or `id BUILDER ID` for each thing. The
# first to name a file is its builder; post-processors name it again.
made() {
    cat "$dir/log.1" "$dir/log" 2>/dev/null | awk -F , -v OFS="$separator" '
        $3 != "artifact" || $1 !~ /^[0-9]+$/ || /[\001-\037\177]/ || /\\n/ { next }
        { value = $0; gsub(/%!\(PACKER_COMMA\)/, "\001", value)
          skip = ($5 == "file") ? 6 : 5
          for (i = 0; i < skip; i++) sub(/^[^,]*,/, "", value)
          gsub(/\001/, ",", value) }
        $5 == "builder-id" { builder = value; files = 0 }
        $5 == "id" { id = value }
        $5 == "file" && value != "" { files++; if (!(value in seen)) print "file", builder, id, value; seen[value] = 1 }
        $5 == "end" && !files && id != "" && !((builder, id) in had) { print "id", builder, id, ""; had[builder, id] = 1 }
    '
}

# Move FILE out of the directory that goes with the sandbox, if it is there; set path to its place.
keep() {
    place=$(cd -P "$(dirname -- "$1")" 2>/dev/null && pwd -P) && [ ! -L "$1" ] && [ -f "$1" ] || return 1
    path=$place/${1##*/} now=$place/${1##*/}
    case $path in "$dir/template/"*) ;; *) return 0 ;; esac
    inner=${path#"$dir/template/"}
    path=$images/$number/$inner now=$images/.$number/$inner
    mkdir -p "$(dirname -- "$now")"
    mv -T -- "$place/${1##*/}" "$now"
}

# Record every artifact with its checksum; images stay when the sandbox goes.
collect() {
    cd "$dir/template"
    number=1
    while [ -e "$images/$number" ] || [ -e "$images/.$number" ]; do number=$((number + 1)); done
    made >"$dir/made"
    : >"$dir/artifacts.new"
    while IFS=$separator read -r kind builder name file; do
        path= now= sum= size=
        if [ "$kind" = file ]; then
            keep "$file" || { tell "the artifact $file is not a file" && return 1; }
            tell "computing the checksum of $path"
            sum=$(sha256sum <"$now") && sum=${sum%% *} || return 1
            size=$(wc -c <"$now")
            [ "$path" = "$now" ] || printf '%s  %s\n' "$sum" "$inner" >>"$images/.$number/SHA256SUMS"
        fi
        printf "%s$separator%s$separator%s$separator%s$separator%s$separator%s\n" \
            "$kind" "$builder" "$name" "$sum" "$size" "$path" >>"$dir/artifacts.new"
        [ -z "$sum" ] || tell "made $path, sha256 $sum"
    done <"$dir/made"
    if [ -d "$images/.$number" ]; then
        printf '%s\n' "$labels" >"$images/.$number/.sandboxer.json"
        sync
        mv -T "$images/.$number" "$images/$number"
    fi
    mv -f "$dir/artifacts.new" "$dir/artifacts"
}
if [ "$status" = 0 ]; then
    collect || status=74
fi
[ -e "$dir/artifacts" ] || : >"$dir/artifacts"
tell "Packer ended with exit status $status"
printf '%s\n' "$status" >"$dir/exit.new"
sync "$dir/exit.new" 2>/dev/null || :
mv -f "$dir/exit.new" "$dir/exit"
