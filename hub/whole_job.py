"""Whether a job that trains all weights can run on its base, before it begins."""

from hub.errors import ConfigError, ModelError
from hub.jobs import JobFile
from hub.models import BaseModel
from wire.codecs import catalogue
from wire.errors import WireError
from wire.whole_model import BaseWeights

#: Of one blob. A device has to gather and keep several, and checks what it gathers at one go.
MAX_BLOB_BYTES = 2**28


def check_whole(file: JobFile, base: BaseModel) -> None:
    """Check that a base's files hold its weights, and that no blob of the job gets too large.

    Args:
        file: the job.
        base: its base model.

    Raises:
        ModelError: the files hold other tensors than ``config.json`` describes, or the model is
            too large.
        ConfigError: it is too large for the codec or the strategy that the job names.
    """
    if not file.trains_weights:
        return
    try:
        BaseWeights(base.folder, base.weights)
    except (WireError, OSError) as error:
        raise ModelError(base.name, f"model.base is {base.name}: {error}") from error
    numbers = base.shape.parameters
    _fits(file, base, "bf16", numbers)  # of the whole adapter, for a device that comes anew
    if file.codec != "auto":
        _fits(file, base, file.codec, numbers)
    if file.chosen_strategy().local.control is not None and _bytes("raw", numbers) > MAX_BLOB_BYTES:
        raise ConfigError(
            "strategy",
            file.strategy,
            "fedavg",
            message=f"strategy is {file.strategy}; its control variates of {_size('raw', numbers)} "
            f"exceed what one blob may have, {MAX_BLOB_BYTES} bytes. Use strategy fedavg or a "
            "smaller model.",
        )


def _fits(file: JobFile, base: BaseModel, codec: str, numbers: int) -> None:
    if _bytes(codec, numbers) <= MAX_BLOB_BYTES:
        return
    why = f"all its weights are {_size(codec, numbers)}; one blob may have {MAX_BLOB_BYTES} bytes"
    if codec == file.codec and _bytes("bf16", numbers) <= MAX_BLOB_BYTES:
        message = f"codec is {codec}, and with model.base {base.name} {why}. Use codec auto."
        raise ConfigError("codec", codec, "auto", message=message)
    raise ModelError(
        base.name, f"model.base is {base.name}; {why}. Use method lora, or a smaller model."
    )


def _bytes(codec: str, numbers: int) -> int:
    return int(numbers * catalogue()[codec].bits_per_parameter / 8)


def _size(codec: str, numbers: int) -> str:
    return f"{numbers} numbers, {_bytes(codec, numbers)} bytes with codec {codec}"
