"""What an engine is: contracts, bundles on disk, backends. Imports no other room, and no vendor library until one is needed."""

from edgepose.engines.bundle import Bundle, open_bundle
from edgepose.engines.contract import Fit, InputContract, ModelContract, OutputContract, Placement, contract_from_json
from edgepose.engines.engine import Engine, Execution, Maps, Slot
from edgepose.engines.errors import EdgePoseError
from edgepose.engines.registry import open_engine
from edgepose.engines.skeleton import Limb, Skeleton

__all__ = [
    "Bundle",
    "EdgePoseError",
    "Engine",
    "Execution",
    "Fit",
    "InputContract",
    "Limb",
    "Maps",
    "ModelContract",
    "OutputContract",
    "Placement",
    "Skeleton",
    "Slot",
    "contract_from_json",
    "open_bundle",
    "open_engine",
]
