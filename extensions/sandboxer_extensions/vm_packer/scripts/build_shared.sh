# build_shared.sh: what the scripts of mode build share, after shared.sh.
# DEFAULT_ROOT is the directory of the builds here, and nothing is below INDEX.
builds=$default_root
dir=$builds/$short
record=$dir/run
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

# Tell whether the recorded keeper lives; sets pid. A pid alone may have been given to another
# process since, so the start time (field 22 of proc_pid_stat(5)) and the boot must match.
alive() {
    run= stat=
    { read -r run <"$record"; } 2>/dev/null || return 1
    pid=${run#*\"pid\":} && pid=${pid%%[!0-9]*}
    start=${run#*\"start\":} && start=${start%%[!0-9]*}
    boot=${run#*\"boot\":\"} && boot=${boot%%\"*}
    [ "$boot" = "$(cat /proc/sys/kernel/random/boot_id)" ] || return 1
    { read -r stat <"/proc/$pid/stat"; } 2>/dev/null || return 1
    # shellcheck disable=SC2086 - the fields are wanted one by one
    set -- ${stat##*) }
    [ "$1" != Z ] && [ "${20}" = "$start" ]
}

# Tell whether what was run last was run for SPEC_HASH.
is_for() {
    grep -qsF "\"sandboxer.dev/spec-hash\":\"$1\"" "$record"
}

# Tell whether the build ended, and whether what it made is still there.
is_over() {
    [ -f "$dir/exit" ] || return 1
    while IFS=$separator read -r kind _ _ _ _ path; do
        [ "$kind" != file ] || [ -f "$path" ] || return 1
    done <"$dir/artifacts"
}
# Between the words of the file `artifacts`: no path that is listed there holds it.
separator=$(printf '\037')

# End what runs: ask Packer and everything it started to clean up, then use force. Fails while
# Packer is still cleaning up. The signal goes to the group, as Packer alone would leave provisioners;
# what outlives Packer by three seconds is killed.
cancel() {
    rounds=0
    while alive; do
        read -r now _ </proc/uptime
        if [ ! -e "$dir/cancelled" ]; then
            kill -s TERM -- "-$pid" 2>/dev/null || :
            printf '%s\n' "${now%.*}" >"$dir/cancelled"
        fi
        read -r since <"$dir/cancelled"
        [ "$((${now%.*} - since))" -lt "$cleanup_s" ] || break
        [ "$rounds" -lt 100 ] || return 1
        rounds=$((rounds + 1))
        sleep 0.1
    done
    kill_members "$mark" "$dir"
    rm -f "$record" "$dir/cancelled"
}

# Remove PATH at once as far as others can see.
discard() {
    [ -e "$1" ] || [ -L "$1" ] || return 0
    mv -T "$1" "$dir/.gone.$$"
    # A provisioner may have taken its own rights away.
    rm -rf -- "$dir/.gone.$$" 2>/dev/null ||
        { chmod -R u+rwX -- "$dir/.gone.$$" && rm -rf -- "$dir/.gone.$$"; }
}

# Remove the temporary directories, those of a validation too.
discard_tmp() {
    for old in "$tmp" "$tmp".*; do
        [ ! -O "$old" ] || rm -rf -- "$old" 2>/dev/null || { chmod -R u+rwX -- "$old" && rm -rf -- "$old"; }
    done
}
