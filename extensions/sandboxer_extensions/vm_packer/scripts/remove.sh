# remove.sh ...: kill the processes of every workspace with our uid and remove it; absent is success.

# NOTE: a refusal inside `ours` must end this script, so it is not at the end of a pipe.
found=$(ours) || exit
[ -n "$found" ] || kill_members "SANDBOXER_ID=$id" ""
for dir in $found; do
    enter_root "${dir%/*}"
    lock
    kill_members "SANDBOXER_ID=$id" "$dir"
    # rm --one-file-system does not stop at a bind mount of the same file system (measured 2026-11).
    while read -r _ _ _ _ point _; do
        case $point in "$dir" | "$dir"/*) terminal "Something is mounted at $point." ;; esac
    done </proc/self/mountinfo
    # What is being removed has a name that can be found again, and others need not wait for it.
    gone=.sbx-gone-$short.$$
    mv "./${dir##*/}" "./$gone"
    exec 9</dev/null
    # The marker goes last: until then the rest is still found, and found to be ours.
    rest() { find "./$gone" -mindepth 1 -maxdepth 1 ! -name .sandboxer.json -exec "$@" {} +; }
    rest rm -rf -- 2>/dev/null || { rest chmod -R u+rwX -- && rest rm -rf --; }
    rm -rf -- "./$gone"
done
# What has no marker any more after the last moment of a removal, or none yet in the first of a birth.
roots | while read -r root_; do
    set -- "$root_"/.sbx-*-"$short".*
    [ -e "$1" ] && [ ! -L "$root_" ] || continue
    enter_root "$root_"
    lock
    rm -rf -- ./.sbx-new-"$short".*
    rmdir ./.sbx-gone-"$short".* 2>/dev/null || :
done
