# inside INIT COMMAND...: become COMMAND in the namespaces of process INIT, without privileges.
inside() {
    init=$1
    shift
    if [ "$(id -u)" = 0 ]; then
        exec nsenter -t "$init" -m -p -i -u -- \
            setpriv --bounding-set=-all --inh-caps=-all --no-new-privs -- "$@"
    fi
    exec nsenter -t "$init" -U --preserve-credentials -m -p -i -u -- setpriv --no-new-privs -- "$@"
}
