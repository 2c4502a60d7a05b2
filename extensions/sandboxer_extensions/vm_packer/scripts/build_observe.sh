# build_observe.sh ...: print every build (of UID, when it is not empty), changing nothing. A line is
#   boot - ID    marker NAME JSON    run NAME JSON    stat NAME STATE START    exit NAME STATUS
#   artifact NAME RECORD    gone NAME PATH    log NAME TEXT    manifest NAME JSON    end - -

# Print the artifacts of build `name`. The last word of a record is the path, and stays here: it may
# hold a secret's text, which the one before it, the path as it is shown, does not.
tell_artifacts() {
    while read -r artifact; do
        path=${artifact##*"$separator"} artifact=${artifact%"$separator"*}
        printf 'artifact %s %s\n' "$name" "$artifact"
        [ -z "$path" ] || [ -f "$path" ] || ! absent "$path" ||
            printf 'gone %s %s\n' "$name" "${artifact##*"$separator"}"
    done
}

readable_roots
read -r boot </proc/sys/kernel/random/boot_id
printf 'boot - %s\n' "$boot"
marked "$builds" | while read -r found; do
    read_marker "$found"
    case $line in
    *"\"sandboxer.dev/uid\":\"$uid"*) ;;
    *) continue ;;
    esac
    name=${found##*/} run= status=
    printf 'marker %s %s\n' "$name" "$line"
    print_manifest "$name" "$found/manifest.json"
    for part in run exit artifacts; do readable "$found/$part"; done
    plain "$found/run" && { read -r run <"$found/run"; } 2>/dev/null || continue
    printf 'run %s %s\n' "$name" "$run"
    ! read_process || printf 'stat %s %s %s\n' "$name" "$state" "$born"
    # NOTE: looked at after the process: a build that ends between the two was seen running.
    if plain "$found/exit" && { read -r status <"$found/exit"; } 2>/dev/null; then
        printf 'exit %s %s\n' "$name" "$status"
        ! plain "$found/artifacts" || tell_artifacts <"$found/artifacts"
    fi
    # 64 KiB, 40 lines and 1000 characters are far more than a message takes.
    [ "$status" = 0 ] || ! plain "$found/log" || { tail -c 65536 "$found/log" 2>/dev/null | tail -n 40 | cut -c 1-1000 |
        sed "s/^/log $name /"; }
done
echo "end - -"
