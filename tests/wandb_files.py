"""What Weights & Biases keeps of a run without a network: a log of records in LevelDB's format."""

import json
import struct

from wandb.proto import wandb_internal_pb2

_BLOCK, _HEADER = 32768, 7


def records(path):
  """The records of a `.wandb` file; one may lie in several blocks, in parts of types 2 to 4."""
  data, place, parts = path.read_bytes(), _HEADER, []
  while place + _HEADER <= len(data):
    left = _BLOCK - place % _BLOCK
    if left < _HEADER:
      place += left
      continue
    _, length, kind = struct.unpack_from("<IHB", data, place)
    parts.append(data[place + _HEADER : place + _HEADER + length])
    place += _HEADER + length
    if kind in (1, 4):
      yield wandb_internal_pb2.Record.FromString(b"".join(parts))
      parts = []


def history(folder):
  """What was logged in all sessions of a workdir, as dictionaries, and the ids of its runs."""
  logged, ids = [], set()
  for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
    for record in records(path):
      if record.HasField("run"):
        ids.add(record.run.run_id)
      if record.HasField("history"):
        items = {"/".join(i.nested_key) or i.key: i.value_json for i in record.history.item}
        rows = {name: json.loads(text) for name, text in items.items()}
        logged.append({name: value for name, value in rows.items() if name[0] != "_"})
  return logged, ids
