"""
`ext.local`: a workspace and a process on this machine, enclosed with what is installed.

The reference backend: read `backend` first, then the scripts it runs. What a sandbox is made of:

    <work_root>/sbx-<id>/               the workspace, mode 0700; its inode is the lock
        .sandboxer.json                 the labels; written before the directory gets its name
        work/                           the only place the sandbox can write to
        log, log.1                      what it printed, at most about 8 MiB each
        exit, suspended, repository     how it ended; that it was suspended; what was copied
    <work_root>/.processes/sbx-<id>     the process: pid, start time, boot, labels

The process is a *keeper* (`scripts/keeper.sh`) that outlives the controller, writes its own record
while it still holds the lock, keeps the log within bounds and notes the exit status.
"""

from sandboxer_extensions.local.backend import LocalExtension, LocalInputs

__all__ = ["LocalExtension", "LocalInputs"]
