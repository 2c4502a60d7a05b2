# build_start.sh ... COPY LABELS SPEC_HASH IMAGES PACKER: start the build in COPY.
# Standard input: the mask and the keeper, each after its number of lines; then the launch text.
# Prints `done`, or `cleaning` while a former build is still being cancelled.
copy=$1 labels=$2 spec_hash=$3 images=$4 packer=$5

enter
if is_for "$spec_hash" && { alive || is_over; }; then
    discard "$copy"
    echo done
    exit
fi
[ -d "$copy" ] || transient "The copy of the template went away."
if ! cancel; then
    echo cleaning
    exit
fi
for old in template home log log.1 exit artifacts listed made launch mask keeper raw out; do discard "$dir/$old"; done
mv -T "$copy" "$dir/template"
for old in "$dir"/.copy.*; do discard "$old"; done
discard_tmp
# One that is there all the same is not ours.
mkdir -m 700 "$tmp" 2>/dev/null || terminal "$tmp is there already, or cannot be made."
mkdir "$dir/home"

# Print the next lines of standard input, after the line that counts them.
take() {
    read -r count
    while [ "$count" -gt 0 ] && IFS= read -r text; do
        printf '%s\n' "$text"
        count=$((count - 1))
    done
}
# What holds secrets has lost its name before it holds them: no death on the way leaves them behind.
exec 4>"$dir/mask" 5<"$dir/mask" 6>"$dir/launch" 7<"$dir/launch"
rm -f "$dir/mask" "$dir/launch"
take >&4
take >"$dir/keeper"
cat >&6
exec 4>&- 6>&-
# Cut short when the controller died while it was sending.
[ "$(tail -n 1 /proc/self/fd/7)" = "# end" ] || transient "Half of what to run arrived."
# The login's PATH, as qemu and its like may be anywhere; nothing else of its environment, and HOME
# is private. Plugins are looked for in the login's own.
cd /
env -i "PATH=$PATH" "HOME=$dir/home" "TMPDIR=$tmp" LC_ALL=C.UTF-8 CHECKPOINT_DISABLE=1 \
    PACKER_NO_COLOR=1 "PACKER_CONFIG_DIR=$HOME" "PACKER_CACHE_DIR=${builds%/*}/packer-cache" "$mark" \
    setsid sh "$dir/keeper" "$dir" "$labels" "$images" "$packer" \
    <&7 7<&- >/dev/null 2>"$dir/keeper.log" &
# Let go and take the lock again: it comes free once the keeper has written its record.
exec 5<&- 7<&- 9</dev/null
enter
alive || [ -f "$dir/exit" ] || transient "The build did not start: $(head -c 300 "$dir/keeper.log")"
echo done
