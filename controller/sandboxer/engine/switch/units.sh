# Who starts the watcher on this host: a systemd timer, cron, or nobody but us. Wants `dir`.
# An installation may have two work roots on one machine, by two Hosts.
unit=sandboxer-switch-${dir##*/}-$(printf %s "$dir" | cksum | cut -d' ' -f1)

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

# Without lingering, a user's units end with their last login, which may be the controller's.
lingers() {
    [ -e "/var/lib/systemd/linger/$(id -un)" ] || {
        loginctl enable-linger && [ -e "/var/lib/systemd/linger/$(id -un)" ]
    } >/dev/null 2>&1
}

# Print `systemd yes`, or fail.
start_systemd() {
    is_plain && find_systemd && { [ -z "$scope" ] || lingers; } || return 1
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
    echo 'systemd yes'
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
    # NOTE: whatever fails here must not leave an empty table; 1 is that grep found no other line.
    kept=$(printf '%s\n' "$table" | grep -vF "# $unit") || [ $? = 1 ] || return 0
    printf '%s' "${kept:+$kept
}" | crontab -
} >/dev/null 2>&1
