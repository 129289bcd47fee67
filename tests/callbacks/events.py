"""Event files of TensorBoard, read as its own reader does."""

import struct


def points(folder):
    """{tag: [(step, value)]} of all files of a folder, without what was purged."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    shown = {}
    for file in sorted(folder.glob("events.out.tfevents.*")):
        for record in records(file.read_bytes()):
            event = Event.FromString(record)
            if event.session_log.status == SessionLog.START:
                for tag, there in shown.items():
                    shown[tag] = [point for point in there if point[0] < event.step]
            for value in event.summary.value:
                if value.WhichOneof("value") == "simple_value":
                    point = (event.step, value.simple_value)
                    shown.setdefault(value.tag, []).append(point)
    return shown


def records(data):
    """The records of a file: length, its checksum, content, its checksum."""
    place = 0
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        yield data[place + 12 : place + 12 + length]
        place += 12 + length + 4
