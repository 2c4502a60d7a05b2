"""
`ext.vm-packer`: work on a VM of one's own, or build the image of one.

Mode `attach` makes a workspace on a VM that is there already (`docs/design/0003-vm-attach.md`).
Mode `build` runs Packer and keeps the image (`docs/design/0004-packer-build.md`).
Read `extension` for the dispatch, `attach` and `build` for the modes, then the scripts they run.
"""

from sandboxer_extensions.vm_packer.extension import VMPackerExtension
from sandboxer_extensions.vm_packer.inputs import VMInputs

__all__ = ["VMInputs", "VMPackerExtension"]
