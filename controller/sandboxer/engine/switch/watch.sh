# watch.sh DIRECTORY once|loop: take away what has expired while nobody renewed the lease.
# It runs on the host, without a controller: as a process that stays, from cron, or by a systemd
# timer. DIRECTORY is that of one installation; docs/design/0006-dead-mans-switch.md says what is in it.
dir=$1 mode=$2
umask 077
cd "$dir" || exit 1

# Seconds since the lease was renewed. The clock of the day may be set, the time since boot may not;
# a lease from before the last boot counts from that boot, so that there is time to renew it.
read_silence() {
    boot='' up='' lease_boot='' lease_up=''
    read -r boot </proc/sys/kernel/random/boot_id
    read -r up _ </proc/uptime
    up=${up%%.*} silence=$up
    [ ! -f lease ] || read -r lease_boot lease_up <lease
    case $lease_up in '' | *[!0-9]*) return ;; esac
    # A container may count from its own start and have the boot id of its machine.
    [ "$lease_boot" != "$boot" ] || [ "$lease_up" -gt "$up" ] || silence=$((up - lease_up))
}

# Tell whether FILE's sandbox has expired unattended; sets uid and lease.
is_due() {
    uid='' due='' lease=''
    read -r _ uid due lease <"$1" || return 1
    for number in "$due" "$lease"; do
        case $number in '' | *[!0-9]*) return 1 ;; esac
    done
    [ "$lease" -ge "$least" ] 2>/dev/null || least=$lease
    [ "$silence" -ge "$lease" ] && [ "$(date +%s)" -ge "$due" ]
}

# Decide under the lock under which leases are renewed; what was decided is kept before it is done.
fire() {
    (
        timeout 10 flock 9 || exit 1
        read_silence
        is_due "$1.switch" || exit 1
        printf '%s %s\n' "$(date +%s)" "$uid" >"$1.fired.new" &&
            mv -f "$1.fired.new" "$1.fired" && mv -f "$1.switch" "$1.firing"
    ) 9>lock 8>&-
}

tick() {
    read_silence
    least=120
    for file in sbx-*.switch; do
        [ ! -f "$file" ] || ! is_due "$file" || fire "${file%.switch}"
    done
    for file in sbx-*.firing; do
        # Once somebody renews, what is left of it is theirs again; the one before may have taken long.
        read_silence
        [ -f "$file" ] && is_due "$file" || continue
        timeout 300 sh "$file" >"${file%.firing}.log" 2>&1 </dev/null 8>&- &&
            rm -f "$file" "${file%.firing}.log"
    done
}

has_work() {
    set -- sbx-*.switch sbx-*.firing
    [ -f "$1" ] || [ -f "$2" ] || [ $# -gt 2 ]
}

# Take the timer and the line of cron away; what would start us again has nothing to start.
leave() {
    . ./units.sh
    remove_units
    remove_cron
}

if [ "$mode" = once ]; then
    tick
    has_work || (timeout 10 flock 9 && { has_work || leave; }) 9>lock
    exit 0
fi
exec 8>watcher.lock
flock -n 8 || exit 0
while :; do
    tick
    if ! has_work; then
        exec 9>lock
        # NOTE: at exit both locks go together, so whoever arms next finds no watcher and starts one.
        ! timeout 10 flock 9 || has_work || { leave; exit 0; }
        exec 9>&-
    fi
    # Four looks in the shortest lease.
    pause=$((least / 4))
    [ "$pause" -ge 1 ] || pause=1
    [ "$pause" -le 30 ] || pause=30
    sleep "$pause" 8>&-
done
