"""What TensorBoard shows of a folder of events."""

import struct

from tensorboardX.proto import event_pb2


def events(path):
  """The events of a file: each has a length of 8 bytes and sums of 4 bytes before and after it."""
  data, found = path.read_bytes(), []
  while data:
    (length,) = struct.unpack("<Q", data[:8])
    found.append(event_pb2.Event.FromString(data[12 : 12 + length]))
    data = data[16 + length :]
  return found


def logged(folder):
  """(step, value) by tag, in all files of a run; a session that starts drops what comes again."""
  curves = {}
  for path in sorted(folder.glob("events.out.tfevents.*")):
    for event in events(path):
      if event.session_log.status == event.session_log.START:
        curves = {tag: [p for p in curve if p[0] < event.step] for tag, curve in curves.items()}
      for value in event.summary.value:
        curves.setdefault(value.tag, []).append((event.step, value.simple_value))
  return curves


def runs(folder):
  """The runs of a folder by their names, as (step, value) by tag."""
  found = {path.parent for path in folder.rglob("events.out.tfevents.*")}
  return {str(run.relative_to(folder)): logged(run) for run in found}
