# remove.sh ...: kill the processes of every workspace with our uid and remove it; absent is success.
# Prints `builds` when builds may be here.

# A program may have taken the rights to its own workspace away; that name is nobody else's.
for root_ in $(roots); do
    regain "$root_/$short"
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
    clear_away "./$gone"
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
    clear_births
    rmdir ./.sbx-gone-"$short".* 2>/dev/null || :
done
tell_builds
