# Who starts the watcher on this host: a systemd timer, cron, or nobody but us. Wants `dir`.
unit=sandboxer-switch-${dir##*/}

# Set `scope` and `units`; fail where systemd does not run, or not for this user.
find_systemd() {
    command -v systemctl >/dev/null || return 1
    scope='' units=/etc/systemd/system
    if [ "$(id -u)" != 0 ]; then
        export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/run/user/$(id -u)}"
        scope=--user units=$HOME/.config/systemd/user
    fi
    [ -d /run/systemd/system ] || return 1
    # shellcheck disable=SC2086 - an option or nothing
    systemctl $scope show-environment >/dev/null 2>&1
}

# A path that systemd and cron take as it is.
is_plain() {
    case $dir in *[!A-Za-z0-9/._-]*) return 1 ;; esac
}

# Print `systemd` and whether it outlives a reboot.
start_systemd() {
    is_plain && find_systemd || return 1
    # shellcheck disable=SC2086
    if ! systemctl $scope is-active --quiet "$unit.timer"; then
        mkdir -p "$units" &&
            printf '%s\n' '[Unit]' "Description=Dead-man's switch of sandboxer in $dir" '' \
                '[Service]' 'Type=oneshot' "ExecStart=/bin/sh $dir/watch.sh $dir once" \
                >"$units/$unit.service" &&
            printf '%s\n' '[Unit]' "Description=Dead-man's switch of sandboxer in $dir" '' \
                '[Timer]' 'OnActiveSec=5s' 'OnBootSec=30s' 'OnUnitInactiveSec=30s' \
                'AccuracySec=1s' '' '[Install]' 'WantedBy=timers.target' >"$units/$unit.timer" &&
            systemctl $scope daemon-reload && systemctl $scope enable --now "$unit.timer" || return 1
    fi >/dev/null 2>&1
    # The units of a user run after a boot only if they may linger.
    if [ -z "$scope" ] || [ -e "/var/lib/systemd/linger/$(id -un)" ] ||
        { loginctl enable-linger && [ -e "/var/lib/systemd/linger/$(id -un)" ]; } >/dev/null 2>&1
    then echo 'systemd yes'; else echo 'systemd no'; fi
}

# Set `table` to this user's table; fail where it cannot be read, or it would be lost.
read_crontab() {
    command -v crontab >/dev/null || return 1
    if table=$(crontab -l 2>/dev/null); then return 0; fi
    case $(LC_ALL=C crontab -l 2>&1) in
        *'no crontab'* | *'No such file'*) table='' ;;
        *) return 1 ;;
    esac
}

# Print `cron yes`; it starts the watcher anew every minute if it is gone.
start_cron() {
    is_plain && pidof cron crond >/dev/null 2>&1 && read_crontab || return 1
    case $table in
        *"# $unit"*) ;;
        *) { printf '%s' "${table:+$table
}" && echo "* * * * * /bin/sh $dir/watch.sh $dir loop >/dev/null 2>&1 # $unit"; } |
            crontab - >/dev/null 2>&1 || return 1 ;;
    esac
    echo 'cron yes'
}

remove_units() {
    # shellcheck disable=SC2086
    find_systemd && [ -f "$units/$unit.timer" ] || return 0
    systemctl $scope disable --now "$unit.timer"
    rm -f "$units/$unit.timer" "$units/$unit.service"
    systemctl $scope daemon-reload
} >/dev/null 2>&1

remove_cron() {
    read_crontab || return 0
    case $table in *"# $unit"*) ;; *) return 0 ;; esac
    printf '%s\n' "$table" | grep -vF "# $unit" | crontab -
} >/dev/null 2>&1
