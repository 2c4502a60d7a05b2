# build_remove.sh ...: cancel the build and remove its directory; images stay. Absent is success.
# Prints `cleaning` while Packer cleans up.
regain "$dir"
# NOTE: a refusal inside `ours` must end this script, so it is not at the end of a pipe.
found=$(ours) || exit
[ -d "$builds" ] || exit 0
for gone in $found; do
    case $gone in
    "$dir")
        enter
        if ! cancel; then
            echo cleaning
            exit
        fi
        # rm --one-file-system does not stop at a bind mount of the same file system (measured 2026-11).
        while read -r _ _ _ _ point _; do
            case $point in "$dir" | "$dir"/*) terminal "Something is mounted at $point." ;; esac
        done </proc/self/mountinfo
        gone=$builds/.sbx-gone-$short.$$
        mv -T "$dir" "$gone"
        exec 9</dev/null
        ;;
    "$builds/.sbx-new-$short".* | "$builds/.sbx-gone-$short".*) ;;
    *) terminal "$gone carries our marker under a name that we do not give." ;;
    esac
    clear_away "$gone"
done
# What has no marker any more after the last moment of a removal, or none yet in the first of a birth.
enter_root "$builds"
lock
rmdir ./.sbx-gone-"$short".* 2>/dev/null || :
rm -rf -- ./.sbx-new-"$short".*
# A build whose directory was lost: its processes carry the mark.
kill_members "$mark" ""
finish_images
discard_tmp
