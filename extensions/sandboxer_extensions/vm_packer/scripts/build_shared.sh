# build_shared.sh: what the scripts of mode build share, after shared.sh.
# DEFAULT_ROOT is the directory of the builds here, and nothing is below INDEX.
builds=$default_root
dir=$builds/$short
record=$dir/run
# What the index is for workspaces.
noted() { [ ! -e "$builds" ] || printf '%s\n' "$builds"; }
# Not SANDBOXER_ID: what ends a workspace must not end a build before it could clean up.
mark=SANDBOXER_BUILD=$id
# Packer's TMPDIR. Its plugins open Unix sockets there, so the path must be short (108 bytes, unix(7)).
tmp=/tmp/$short
# Seconds Packer has to clean up, over all calls; giving a virtual machine back to a cloud takes a
# minute or two. One call waits for ten of them.
cleanup_s=180

# Take the lock of the build; the working directory stays the one of all builds, as processes that
# stand in a build's own are ended with it.
enter() {
    enter_root "$builds"
    read_marker "$dir"
    is_ours "$dir" || transient "There is no build $dir."
    cd -P "./$short"
    lock
    cd ..
}

# Tell whether PATH is a file, and no link: a provisioner may have put a pipe there, and would make
# whoever reads wait for ever.
plain() { [ -f "$1" ] && [ ! -L "$1" ]; }

# Set pid to that of the record in run, and state and born to what its process has in the fields 3 and
# 22 of proc_pid_stat(5). Fails when there is none; what a record says, a provisioner may have written.
read_process() {
    pid=${run#*\"pid\":} && pid=${pid%%[!0-9]*}
    # NOTE: /proc//stat is /proc/stat, which is there.
    [ -n "$pid" ] && { read -r stat <"/proc/$pid/stat"; } 2>/dev/null || return 1
    # shellcheck disable=SC2086 - the fields are wanted one by one
    set -- ${stat##*) }
    state=${1-} born=${20-}
    [ -n "$born" ]
}

# Tell whether the recorded keeper lives; sets pid. A pid alone may have been given to another
# process since, so the start time and the boot must match.
alive() {
    run=
    plain "$record" || return 1
    { read -r run <"$record"; } 2>/dev/null || return 1
    start=${run#*\"start\":} && start=${start%%[!0-9]*}
    boot=${run#*\"boot\":\"} && boot=${boot%%\"*}
    [ "$boot" = "$(cat /proc/sys/kernel/random/boot_id)" ] || return 1
    read_process && [ "$state" != Z ] && [ "$born" = "$start" ]
}

# Tell whether what was run last was run for SPEC_HASH.
is_for() {
    plain "$record" && grep -qsF "\"sandboxer.dev/spec-hash\":\"$1\"" "$record"
}

# End the script when PATH, which is not seen as a file, may be there all the same.
absent() {
    [ -e "$1" ] || readable "$1"
}

# Tell whether the build ended, and whether what it made is still there. One that failed is over
# whatever became of what it made.
is_over() {
    status=
    plain "$dir/exit" && { read -r status <"$dir/exit" || :; }
    case $status in 0) ;; '') return 1 ;; *) return 0 ;; esac
    plain "$dir/artifacts" || return 1
    while IFS=$separator read -r kind _ _ _ _ _ path; do
        [ "$kind" != file ] || [ -f "$path" ] || { absent "$path" && return 1; }
    done <"$dir/artifacts"
}
# Between the words of the file `artifacts`: no path that is listed there holds it.
separator=$(printf '\037')

# Print what can still clean up: the group of the keeper, or what a killed keeper left. What outlives
# a keeper that came to its end is no part of Packer.
cleaners() {
    if alive; then
        printf '%s\n' "-$pid"
    elif ! plain "$dir/exit"; then
        members "$mark" ""
    fi
}

# Set since to the seconds at which everything was asked to end; long ago when that cannot be read.
read_since() {
    since=
    read -r since <"$dir/cancelled" || :
    case ${since#-} in '' | 0?* | *[!0-9]* | ??????????*) since=-1000 ;; esac
    [ "$since" -le "$1" ] || since=-1000
}

# End what runs: ask Packer and everything it started to clean up, then use force. Fails while
# Packer is still cleaning up. The signal goes to the group, as Packer alone would leave provisioners;
# what outlives Packer by three seconds is killed.
cancel() {
    rounds=0
    while asked=$(cleaners) && [ -n "$asked" ]; do
        read -r now _ </proc/uptime
        if ! plain "$dir/cancelled"; then
            rm -rf -- "$dir/cancelled"
            # shellcheck disable=SC2086 - several pids
            kill -s TERM -- $asked 2>/dev/null || :
            printf '%s\n' "${now%.*}" >"$dir/cancelled"
        fi
        read_since "${now%.*}"
        [ "$((${now%.*} - since))" -lt "$cleanup_s" ] || break
        [ "$rounds" -lt 100 ] || return 1
        rounds=$((rounds + 1))
        sleep 0.1
    done
    kill_members "$mark" "$dir"
    finish_images
    rm -rf -- "$record" "$dir/cancelled"
}

# Give images that a killed keeper was about to record their final name: they are labelled, and what
# has no line in SHA256SUMS was not summed up.
finish_images() {
    for half in "${builds%/*}"/images/*-"$short"/.[0-9]*; do
        [ -d "$half" ] && [ ! -L "$half" ] && [ -O "$half" ] || continue
        if [ -n "$(find "$half" -type f ! -name .sandboxer.json | head -n 1)" ]; then
            number=1
            while [ -e "${half%/*}/$number" ]; do number=$((number + 1)); done
            mv -T "$half" "${half%/*}/$number"
        else
            rm -rf -- "$half"
        fi
    done
}

# Remove PATH at once as far as others can see.
discard() {
    [ -e "$1" ] || [ -L "$1" ] || return 0
    mv -T "$1" "$dir/.gone.$$"
    clear_away "$dir/.gone.$$"
}

# Remove the temporary directories, those of a validation too.
discard_tmp() {
    for old in "$tmp" "$tmp".*; do
        # -O follows a link, and another account may have put one here.
        if [ -L "$old" ]; then
            rm -f -- "$old" 2>/dev/null || :
        elif [ -O "$old" ]; then
            clear_away "$old"
        fi
    done
}
