# build_provision.sh ... LABELS SPEC_HASH LEAST_KILOBYTES: make the directory of the build.
# Standard input is the manifest. Prints `done` when the build runs or ran, `cleaning` while a former
# one is being cancelled, else `copy DIRECTORY`: where the template belongs.
labels=$1 spec_hash=$2 least_kilobytes=$3
marker="{\"path\":\"$dir\",\"labels\":$labels}"

IFS= read -r manifest || transient "The manifest did not arrive."
enter_root "$builds"
lock
ask_room() {
    read_free
    [ "$free" -ge "$least_kilobytes" ] ||
        transient "Only $((free / 1024)) MiB are free in $builds, and $((least_kilobytes / 1024)) are wanted."
}
# Labelled from birth: the directory gets its name only once its marker is inside.
if [ ! -e "$dir" ] && [ ! -L "$dir" ]; then
    ask_room
    rm -rf -- .sbx-new-"$short".*
    new=.sbx-new-$short.$$
    mkdir "$new"
    printf '%s\n' "$marker" >"$new/.sandboxer.json"
    keep_manifest "$new/manifest.json" "$new/manifest.new"
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
keep_manifest "$dir/manifest.json" "$dir/.manifest.$$"
if is_for "$spec_hash" && { alive || is_over; }; then
    echo done
    exit
fi
# What runs is ended before anything is copied, so that waiting for it makes no copy. A build that
# is over stays as it is: its successor may yet be refused.
if plain "$record" && ! plain "$dir/exit" && ! cancel; then
    echo cleaning
    exit
fi
# Each is a whole copy of the template, left by a call that did not come to its end.
for old in "$dir"/.copy.*; do discard "$old"; done
for old in "$dir"/.gone.*; do [ ! -e "$old" ] || clear_away "$old"; done
ask_room
mkdir "$dir/.copy.$$"
echo "copy $dir/.copy.$$"
