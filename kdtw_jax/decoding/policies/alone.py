"""Policies in which one model writes everything: the two ends of every trade-off."""

from typing import ClassVar

import flax.struct

from kdtw_jax.decoding.policies.policy import Policy
from kdtw_jax.decoding.policies.registry import register


@register("student", "Student alone", equation="never asks")
@flax.struct.dataclass
class StudentAlone(Policy):
  """A policy in which the student writes everything; there is no teacher cache."""

  needs_teacher: ClassVar[bool] = False


@register("teacher", "Teacher alone", equation="always asks")
@flax.struct.dataclass
class TeacherAlone(Policy):
  """A policy in which the teacher writes everything; there is no student cache."""

  needs_student: ClassVar[bool] = False
  teacher_every_step: ClassVar[bool] = True
