"""Checkpoints: durable state of a partition, as sealed bytes, in Redis or in a folder.

`container` turns named arrays and JSON values into bytes and back; a store keeps the two newest generations of them.
"""

from foretick.ports.checkpoints.container import Contents, Packed, unpack
from foretick.ports.checkpoints.folder_store import FolderStore
from foretick.ports.checkpoints.redis_store import RedisStore
from foretick.ports.checkpoints.store import CheckpointStore, Generation

__all__ = ["CheckpointStore", "Contents", "FolderStore", "Generation", "Packed", "RedisStore", "unpack"]
