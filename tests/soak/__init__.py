"""
A long run under random faults, judged by what the hosts really have.

    make soak SEED=7 SANDBOXES=200 MINUTES=10

A real controller process works for a fleet on three real hosts of the rig while hosts are cut off,
switched off and filled up, engines and controllers are killed, containers are killed and removed by
hand, and manifests are made, edited and deleted. Then everything is healed, it must converge, and
the engines are listed directly: nothing too much, nothing twice, nothing gone without a reason, and
what belongs to others untouched.

What happens when is in `schedule.py` and follows from the seed alone; what is wished meanwhile in
`wishes.py`; how it is done to machines in `trouble.py` and `harm.py`; what is judged in `verdict.py`;
`run.py` puts them together. `make test-exhaustive` runs twenty seconds of it (`test_soak.py`), so that it does not rot.
"""
