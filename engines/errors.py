"""Every error this project raises on purpose.

    EdgePoseError
    ├── ConfigError          a file or option says something impossible
    ├── BackendUnavailable   a vendor library, device or precision is not on this machine
    ├── EngineLoadError      the vendor library refuses the model
    ├── InferenceFailed      an engine that was running reports a failure
    ├── BundleCorrupt        a bundle is torn, half-written or edited
    ├── BundleStale          a bundle is sound but belongs to another version of edgepose or another device
    ├── ShapeMismatch        an array or model has another shape than the contract
    ├── CheckpointError      a weights file does not fit the network
    ├── ExportError          a network cannot be converted
    ├── ParityError          a conversion changed what the network computes
    ├── CalibrationError     INT8 scales cannot be chosen from these pictures
    ├── AccuracyGateFailed   a conversion costs more accuracy than was allowed
    ├── SourceError          a picture or video cannot be read
    │   └── SourceLost       a source that was delivering has stopped
    └── SinkError            a result cannot be written

A message says what was found, what was wanted and what to do, in one line. Mistakes in the calling code (waiting on a slot that was
never started, say) are `RuntimeError` or `ValueError` instead: they are bugs, not circumstances.
"""


class EdgePoseError(Exception):
    """Root of the tree; command-line programs show it as one line and exit with status 1."""


class ConfigError(EdgePoseError):
    """A file or option says something impossible."""


class BackendUnavailable(EdgePoseError):
    """A vendor library, device or precision is not on this machine."""


class EngineLoadError(EdgePoseError):
    """The vendor library refuses the model."""


class InferenceFailed(EdgePoseError):
    """An engine that was running reports a failure."""


class BundleCorrupt(EdgePoseError):
    """A bundle is torn, half-written or edited."""


class BundleStale(EdgePoseError):
    """A bundle is sound but belongs to another version of edgepose or another device."""


class ShapeMismatch(EdgePoseError):
    """An array or model has another shape than the contract."""


class CheckpointError(EdgePoseError):
    """A weights file does not fit the network."""


class ExportError(EdgePoseError):
    """A network cannot be converted."""


class ParityError(EdgePoseError):
    """A conversion changed what the network computes."""


class CalibrationError(EdgePoseError):
    """INT8 scales cannot be chosen from these pictures."""


class AccuracyGateFailed(EdgePoseError):
    """A conversion costs more accuracy than was allowed."""


class SourceError(EdgePoseError):
    """A picture or video cannot be read."""


class SourceLost(SourceError):
    """A source that was delivering has stopped."""


class SinkError(EdgePoseError):
    """A result cannot be written."""
