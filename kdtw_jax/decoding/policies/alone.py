"""One model writes everything: the ends of every trade-off."""

from typing import ClassVar

import flax.struct

from kdtw_jax.decoding.policies.policy import Policy
from kdtw_jax.decoding.policies.registry import register


@register("student", "Student alone", equation="never asks")
@flax.struct.dataclass
class StudentAlone(Policy):
  """The student writes everything; no teacher cache exists."""

  needs_teacher: ClassVar[bool] = False


@register("teacher", "Teacher alone", equation="always asks")
@flax.struct.dataclass
class TeacherAlone(Policy):
  """The teacher writes everything; no student cache exists."""

  needs_student: ClassVar[bool] = False
  teacher_every_step: ClassVar[bool] = True
