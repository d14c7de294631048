"""What is known of a generator before it is built."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Traits:
  """What is known of a generator before it is built, so that no code needs to compare names.

  What a builder does not say is as for a flow of images without histograms and batch norms.
  """

  draws_rows: bool = False  #: Whether its samples are rows of a table instead of images.
  noise_like_images: bool = True  #: Whether its noise lies in the places of the pixels that it becomes.
  #: Whether products of large matrices take most of its time. In a training step they use all cores for the whole
  #: batch, because parts of the batch would each read all weights. On a CPU, XLA compiles nothing but steps.
  computed_whole: bool = False
  paper: str = ''  #: The data set whose numbers in the paper come from this generator.
  components: int = 1  #: How many components its prior has.
  sees_condition: bool = True  #: Whether its networks see a condition, and not only the prior.
  has_batch_norm: bool = False  #: Whether an image's density depends on the other images of a batch in training.
  has_histograms: bool = False  #: Whether histograms of the training images lead from pixels to logits.
  logits_see_condition: bool = False  #: Whether the step from pixels to logits depends on a condition.
