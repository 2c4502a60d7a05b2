# inside INIT COMMAND...: become COMMAND in the namespaces of process INIT, without privileges.
# With `leader` set, COMMAND leads a session of its own on the terminal: a shell's job control needs
# a process group that exists in its own namespace. Taking over the terminal is root's right.
inside() {
    init=$1
    shift
    if [ "$(id -u)" = 0 ]; then
        # shellcheck disable=SC2086 - either nothing or a program and its options
        exec nsenter -t "$init" -m -p -i -u -- ${leader:-} \
            setpriv --bounding-set=-all --inh-caps=-all --no-new-privs -- "$@"
    fi
    exec nsenter -t "$init" -U --preserve-credentials -m -p -i -u -- setpriv --no-new-privs -- "$@"
}
