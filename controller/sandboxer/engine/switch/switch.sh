# switch.sh DIRECTORY arm SHORT_ID UID END LEASE COMMAND WATCHER UNITS | disarm SHORT_ID... | renew
# Prints what is armed and what has fired, as `armed UID END LEASE`, `fired UID TIME` and
# `watcher NAME yes|no` (whether it outlives a reboot). Times are seconds since 1970.
umask 077
dir=$1 action=$2
shift 2
[ "$action" != arm ] || mkdir -p -- "$dir" || exit 1
[ -d "$dir" ] || exit 0
cd "$dir" || exit 1
exec 9>lock || exit 1
# NOTE: not flock -w, which BusyBox does not know.
timeout 10 flock 9 || exit 75

renew() {
    read -r boot </proc/sys/kernel/random/boot_id
    read -r up _ </proc/uptime
    printf '%s %s\n' "$boot" "${up%%.*}" >lease.new && mv -f lease.new lease
}

quoted() {
    printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")"
}

# What the watcher and its commands need of this login's environment to find the same engine; cron
# and systemd give another.
print_environment() {
    for name in PATH HOME XDG_CONFIG_HOME XDG_DATA_HOME XDG_RUNTIME_DIR DOCKER_HOST \
        DOCKER_CONTEXT DOCKER_CONFIG DOCKER_TLS_VERIFY DOCKER_CERT_PATH CONTAINER_HOST \
        CONTAINERS_CONF CONTAINERS_STORAGE_CONF; do
        eval "value=\${$name-}"
        [ -z "$value" ] || printf 'export %s=%s\n' "$name" "$(quoted "$value")"
    done
}

keep() {
    printf '%s\n' "$2" >"$1.new" && mv -f "$1.new" "$1"
}

arm() {
    keep watch.sh "$(print_environment)
$6" && keep units.sh "$7" && printf '%s\n' "#1 $2 $3 $4" "$5" >"$1.switch.new" || exit 1
    # NOTE: in this order: a removal that is decided and not begun does not begin any more.
    rm -f "$1.firing" "$1.fired" "$1.log"
    mv -f "$1.switch.new" "$1.switch" || exit 1
}

start_watcher() {
    if watcher=$(start_systemd); then return; fi
    if flock -n watcher.lock true; then
        setsid sh watch.sh "$dir" loop </dev/null >/dev/null 2>&1 9>&- &
    fi
    watcher=$(start_cron) || watcher='process no'
}

case $action in
    arm) arm "$@" ;;
    disarm) for short; do rm -f "$short.switch" "$short.firing" "$short.fired" "$short.log"; done ;;
esac
renew || exit 1
for file in sbx-*.switch; do
    [ -f "$file" ] && read -r _ uid due lease <"$file" && echo "armed $uid $due $lease"
done
for file in sbx-*.fired; do
    [ -f "$file" ] && read -r at uid <"$file" && echo "fired $uid $at"
done
set -- sbx-*.switch sbx-*.firing
if [ -f "$1" ] || [ -f "$2" ] || [ $# -gt 2 ]; then
    . ./units.sh
    start_watcher
    echo "watcher $watcher"
fi
