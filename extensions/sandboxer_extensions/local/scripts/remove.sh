# remove.sh ...: remove processes and workspace; absent is success.
if [ -L "$dir" ]; then terminal "$dir is a symbolic link, which we never make."; fi
# Without a marker it is what a removal left in its last moment, and empty, or not ours.
[ -f "$marker" ] || rmdir "$dir" 2>/dev/null || [ ! -e "$dir" ] ||
    terminal "$dir has no marker of ours."
own "$marker"
own "$record"
# An empty one is from a birth that was cut short.
for new in "$root/.new-$short."*; do
    [ ! -s "$new/.sandboxer.json" ] || own "$new/.sandboxer.json"
done
[ ! -e "$dir" ] || lock
kill_all
rm -rf "$root/.new-$short."*
[ -e "$dir" ] || exit 0

# rm --one-file-system does not stop at a bind mount of the same file system (measured 2026-11).
mounts=$(awk -v d="$dir" '$5 == d || index($5, d "/") == 1 { print $5 }' /proc/self/mountinfo)
[ -z "$mounts" ] || terminal "Something is mounted below $dir: $mounts"
# The marker goes last: until then the rest is still found, and found to be ours.
rest() { find "$dir" -mindepth 1 -maxdepth 1 ! -name .sandboxer.json -exec "$@" {} +; }
rest rm -rf -- 2>/dev/null || { rest chmod -R u+rwX -- && rest rm -rf --; }
rm -rf -- "$dir"
