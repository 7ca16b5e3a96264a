"""Folders on the Hugging Face hub: the only module that imports huggingface_hub.

The library finds the token and the cache; nothing else is read of either.
"""

from collections.abc import Sequence
from pathlib import Path
import re
from typing import Any

from kdtw_jax.files import first_line

_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?")
_NEW_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]{,95}", re.ASCII)
_OURS = "kdtw.json"  # lies in every folder that is uploaded
_ATTRIBUTES = ".gitattributes"  # the hub makes it


def is_id(name: str, *, with_owner: bool = False) -> bool:
  """Returns True for what may be the id of a model of the hub, with a revision or without."""
  fits = bool(_ID.fullmatch(name)) and not name.startswith(".")
  return fits and ("/" in name.partition("@")[0] or not with_owner)


def check_new_id(name: str) -> None:
  """Raises ValueError if nothing can be uploaded under this name, because of its form."""
  if not _NEW_ID.fullmatch(name) or ".." in name or "--" in name or name.endswith((".git", ".")):
    raise ValueError(
        "is not a name on the hub: give OWNER/NAME, a user or an organisation and up to 96 letters,"
        " digits, '-', '_' and '.'"
    )


def download(name: str, patterns: Sequence[str]) -> Path:
  """Downloads files of a model once; returns the folder in the cache.

  Args:
    name: its id, followed by "@" and a revision unless it is the newest.
    patterns: the files to download; "*" matches "/" too.

  Returns:
    The folder.

  Raises:
    FileNotFoundError: if there is no such model, or it is not in the cache and the hub cannot be
      reached; says how to use a local copy.
  """
  model, _, revision = name.partition("@")
  import huggingface_hub  # here: a run from local folders needs no network library
  from huggingface_hub import constants, errors

  try:
    return Path(
        huggingface_hub.snapshot_download(
            model, revision=revision or None, allow_patterns=list(patterns)
        )
    )
  except (
      errors.HfHubHTTPError,
      errors.LocalEntryNotFoundError,
      errors.OfflineModeIsEnabled,
      errors.HFValidationError,
      OSError,
  ) as error:
    reason = first_line(error)
    raise FileNotFoundError(
        f"{name}: no such local folder, not in the hub's cache ({constants.HF_HUB_CACHE}), and "
        f"cannot be downloaded ({type(error).__name__}: {reason}). Where there is a network, run "
        f"`hf download {model} --local-dir DIR`, bring DIR here and give it instead of {name!r}"
    ) from error


def upload(folder: Path, name: str, *, private: bool = False) -> str:
  """Uploads a folder with `kdtw.json`, in one commit; the model then holds these files alone.

  Args:
    folder: the folder.
    name: OWNER/NAME, made if it does not exist.
    private: True to make it for its owner alone.

  Returns:
    The address of the model's page.

  Raises:
    OSError: if the hub cannot be reached or refuses; says why, and what to do.
    ValueError: if the model exists, and holds something else or is public, which private forbids.
  """
  import huggingface_hub

  api = huggingface_hub.HfApi()
  try:
    found = _existing(api, name)
    files = {file.rfilename for file in found.siblings or ()} - {_ATTRIBUTES} if found else set()
  except Exception as error:
    raise _refused(error) from error
  if files and _OURS not in files:
    raise ValueError("exists on the hub and is no earlier export: give another name")
  if found and private and not found.private:
    raise ValueError("exists on the hub and is public: make it private there, or give another name")
  try:
    if not found:
      api.create_repo(name, private=private)
    api.upload_folder(
        repo_id=name,
        folder_path=folder,
        commit_message="kdtw export",
        delete_patterns="*",  # of an earlier export
    )
  except Exception as error:  # of three network libraries, with no class in common
    raise _refused(error) from error
  return f"{api.endpoint}/{name}"


def _existing(api: Any, name: str) -> Any:
  """Returns what the hub says of a model; None if it has none of this name to show."""
  from huggingface_hub import errors

  try:
    return api.repo_info(name)
  except errors.RepositoryNotFoundError:
    return None


def _refused(error: Exception) -> OSError:
  """Makes an error of one line of what a network library raised."""
  status = getattr(getattr(error, "response", None), "status_code", None)
  remedy = {
      401: "not logged in: run `hf auth login`, or set HF_TOKEN",
      403: "this account or its token may not write there: give a name of your own, and a token "
      "that may write",
      None: "the hub is out of reach, or broke off: try again where there is a network",
  }.get(status, "the hub refuses it")
  return OSError(f"{remedy} ({type(error).__name__}: {first_line(error)})")
