# enclose LEVEL WORK TIES COMMAND...: become COMMAND inside the walls of LEVEL.
# TIES is `session` to cut COMMAND off from a controlling terminal, else `terminal`.
# --die-with-parent ties the sandbox to its keeper, which outlives the controller.
enclose() {
    level=$1 work=$2 ties=$3
    shift 3
    case $level in
    bubblewrap)
        set -- --chdir "$work" -- "$@"
        [ "$ties" != session ] || set -- --new-session "$@"
        # Of /etc only what programs need to resolve names and load libraries: no keys, no shadow.
        for file in passwd group nsswitch.conf hosts host.conf resolv.conf protocols services \
            localtime ld.so.cache ld.so.conf ld.so.conf.d alternatives ssl ca-certificates \
            pki mime.types profile os-release debian_version; do
            set -- --ro-bind-try "/etc/$file" "/etc/$file" "$@"
        done
        exec bwrap --ro-bind /usr /usr --ro-bind-try /bin /bin --ro-bind-try /sbin /sbin \
            --ro-bind-try /lib /lib --ro-bind-try /lib32 /lib32 --ro-bind-try /lib64 /lib64 \
            --ro-bind-try /opt /opt --ro-bind-try /nix /nix \
            --proc /proc --dev /dev --tmpfs /tmp --tmpfs /run --tmpfs /var/tmp \
            --bind "$work" "$work" \
            --unshare-pid --unshare-ipc --unshare-uts --cap-drop ALL --die-with-parent "$@"
        ;;
    unshare)
        cd "$work"
        if [ "$(id -u)" = 0 ]; then
            exec unshare --pid --fork --kill-child --mount --mount-proc --ipc --uts -- \
                setpriv --bounding-set=-all --inh-caps=-all --no-new-privs -- "$@"
        fi
        exec unshare --user --map-current-user --pid --fork --kill-child --mount --mount-proc \
            --ipc --uts -- setpriv --no-new-privs -- "$@"
        ;;
    none)
        cd "$work"
        exec "$@"
        ;;
    esac
}
