# remove.sh ...: kill the processes of every workspace with our uid and remove it; absent is success.

# A program may have taken the rights to its own workspace away; that name is nobody else's.
for root_ in $(roots); do
    place=$root_/$short
    [ -d "$place" ] && [ -O "$place" ] && [ ! -L "$place" ] || continue
    { [ -r "$place" ] && [ -x "$place" ] && [ -w "$place" ]; } || chmod u+rwx "$place"
    found=$place/.sandboxer.json
    [ -r "$found" ] || [ -L "$found" ] || [ ! -O "$found" ] || chmod u+r "$found"
done

# NOTE: a refusal inside `ours` must end this script, so it is not at the end of a pipe.
found=$(ours) || exit
[ -n "$found" ] || kill_members "SANDBOXER_ID=$id" ""
for dir in $found; do
    enter_root "${dir%/*}"
    lock
    # It was found before the lock was held: another call may have removed it, and its name may be
    # another sandbox's by now.
    read_marker "$dir"
    is_ours "$dir" || continue
    kill_members "SANDBOXER_ID=$id" "$dir"
    # rm --one-file-system does not stop at a bind mount of the same file system (measured 2026-11).
    while read -r _ _ _ _ point _; do
        case $point in "$dir" | "$dir"/*) terminal "Something is mounted at $point." ;; esac
    done </proc/self/mountinfo
    # What is being removed has a name that can be found again, and others need not wait for it.
    gone=.sbx-gone-$short.$$
    mv -T "./${dir##*/}" "./$gone"
    exec 9</dev/null
    # The marker goes last: until then the rest is still found, and found to be ours.
    rest() { find "./$gone" -mindepth 1 -maxdepth 1 ! -name .sandboxer.json -exec "$@" {} +; }
    # NOTE: chmod -R would follow a link that was planted at the top.
    rest rm -rf -- 2>/dev/null ||
        { find "./$gone" -type d ! -perm -700 -exec chmod u+rwx {} \; && rest rm -rf --; }
    rm -rf -- "./$gone"
done
# What has no marker any more after the last moment of a removal, or none yet in the first of a birth.
for root_ in $(roots); do
    place=$root_/$short
    [ ! -d "$place" ] || [ -L "$place" ] || [ ! -O "$place" ] ||
        terminal "$place is still there, and its marker is not ours any more; look at it and remove it."
    set -- "$root_"/.sbx-*-"$short".*
    [ -e "$1" ] && [ ! -L "$root_" ] || continue
    enter_root "$root_"
    lock
    rm -rf -- ./.sbx-new-"$short".*
    rmdir ./.sbx-gone-"$short".* 2>/dev/null || :
done
