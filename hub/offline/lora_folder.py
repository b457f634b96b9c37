"""A LoRA folder of PEFT, as aggregation takes its layers."""

from hub.aggregation.contract import Factors
from wire import lora_folder


class LoraFolder(lora_folder.LoraFolder):
    """See `wire.lora_folder`."""

    def factors(self, target: str) -> Factors:
        """Return a layer's factors in the numbers that devices send.

        Raises:
            MalformedError: an entry is not finite, or the file was cut off.
            OSError: it can't be read.
        """
        return Factors(*self.pair(target))
