"""TensorBoard event files: a folder a run, scalars, and the settings as its HParams plugin has them."""

import os
import socket
import time
from pathlib import Path
from typing import Any

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2
from tensorboard.summary.writer.record_writer import RecordWriter

from lmscale.durable import make_folder
from lmscale.trackers.points import News


def opened(folder: Path, experiment: str, online: bool) -> "TensorBoard":
    """Open the tracker whose files lie in `folder`."""
    return TensorBoard(folder)


class TensorBoard:
    """One file a run and start: TensorBoard reads the files of a folder in order, and later steps win."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, RecordWriter] = {}

    def send(self, news: News) -> None:
        """Append the points; end the session of a run that has ended."""
        file = self.files.get(news.run_id) or self._begin(news)
        for step, values in news.points.items():
            scalars = [
                summary_pb2.Summary.Value(tag=name, simple_value=value) for name, value in values.items()
            ]
            _write(file, step=step, summary=summary_pb2.Summary(value=scalars))
        if news.outcome:
            status = "STATUS_SUCCESS" if news.outcome == "done" else "STATUS_FAILURE"
            end = plugin_data_pb2.SessionEndInfo(
                status=api_pb2.Status.Value(status), end_time_secs=time.time()
            )
            about = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=end))
            tag = metadata.SESSION_END_INFO_TAG
            value = summary_pb2.Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)
            _write(file, summary=summary_pb2.Summary(value=[value]))
            self.files.pop(news.run_id).close()
        else:
            file.flush()

    def _begin(self, news: News) -> RecordWriter:
        folder = self.folder / news.name
        make_folder(folder)
        begun = f"{time.time():017.6f}"  # the order of the names is that of the starts
        name = f"events.out.tfevents.{begun}.{socket.gethostname()}.{os.getpid()}"
        file = self.files[news.run_id] = RecordWriter((folder / name).open("wb"))
        _write(file, file_version="brain.Event:2")
        _write(file, summary=summary_v2.hparams_pb(dict(news.config), trial_id=news.run_id))
        return file

    def close(self) -> None:
        """Close every file."""
        for file in self.files.values():
            file.close()


def _write(file: RecordWriter, **content: Any) -> None:
    file.write(event_pb2.Event(wall_time=time.time(), **content).SerializeToString())
