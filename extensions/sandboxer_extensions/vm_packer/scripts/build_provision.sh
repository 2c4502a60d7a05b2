# build_provision.sh ... LABELS SPEC_HASH LEAST_KILOBYTES: make the directory of the build.
# Prints `done` when the build runs or ran, else `copy DIRECTORY`: where the template belongs.
labels=$1 spec_hash=$2 least_kilobytes=$3
marker="{\"path\":\"$dir\",\"labels\":$labels}"

enter_root "$builds"
lock
read_free
[ "$free" -ge "$least_kilobytes" ] ||
    transient "Only $((free / 1024)) MiB are free in $builds, and $((least_kilobytes / 1024)) are wanted."
# Labelled from birth: the directory gets its name only once its marker is inside.
if [ ! -e "$dir" ] && [ ! -L "$dir" ]; then
    rm -rf -- .sbx-new-"$short".*
    new=.sbx-new-$short.$$
    mkdir "$new"
    printf '%s\n' "$marker" >"$new/.sandboxer.json"
    # -T: onto the name and never into a directory that got it meanwhile.
    mv -T "$new" "$dir"
fi
exec 9</dev/null
[ ! -L "$dir" ] || terminal "$dir is a symbolic link, which we never make."
read_marker "$dir"
[ -n "$line" ] || terminal "$dir is there, and is no build of ours."
is_ours "$dir" || terminal "$dir is the build of another sandbox."
enter
if [ "$line" != "$marker" ]; then
    printf '%s\n' "$marker" >"$dir/.marker.$$"
    mv -f "$dir/.marker.$$" "$dir/.sandboxer.json"
fi
if is_for "$spec_hash" && { alive || is_over; }; then
    echo done
else
    # One for each call, so that a copy left over from a dead controller meets no running build.
    mkdir "$dir/.copy.$$"
    echo "copy $dir/.copy.$$"
fi
