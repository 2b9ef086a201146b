"""An example of a hook: tells when somebody stands with both hands on the hips for a second.

    [hook]
    file = "/etc/edgepose/hook_example.py"

`on_poses` is called for each result of each camera, in a process of its own; docs/daemon-events.md says what it gets and may return.
"""

HELD_S = 1.0
since: dict[tuple[str, int], float] = {}
said: set[tuple[str, int]] = set()


def on_start(settings):
    """Once, before the first call. What is printed goes to the daemon's log."""
    print(f"watching for hands on hips with skeleton {settings['skeleton']}")


def on_poses(camera, poses):
    """`poses["people"]` have an id (None where the camera does not track), a score, and the keypoints that were found, by name."""
    here = set()
    for person in poses["people"]:
        key = (camera, person["id"])
        here.add(key)
        if not hands_on_hips(person["keypoints"]):
            since.pop(key, None)
            if key in said:
                said.remove(key)
                yield {"kind": "hands_on_hips", "state": "ended", "person": person["id"]}
        elif poses["at"] - since.setdefault(key, poses["at"]) >= HELD_S and key not in said:
            said.add(key)
            yield {"kind": "hands_on_hips", "state": "started", "person": person["id"], "detail": {"score": round(person["score"], 2)}}
    for gone in [key for key in since if key[0] == camera and key not in here]:
        del since[gone]
        if gone in said:
            said.remove(gone)
            yield {"kind": "hands_on_hips", "state": "ended", "person": gone[1]}


def hands_on_hips(keypoints):
    """Whether both wrists are within a third of the torso from their hips, and the elbows point outwards."""
    wanted = [f"{side}_{part}" for side in ("left", "right") for part in ("shoulder", "elbow", "wrist", "hip")]
    if any(name not in keypoints for name in wanted):
        return False
    for side, other in (("left", "right"), ("right", "left")):
        shoulder, elbow, wrist, hip = (keypoints[f"{side}_{part}"] for part in ("shoulder", "elbow", "wrist", "hip"))
        torso = distance(shoulder, hip)
        outwards = abs(elbow[0] - keypoints[f"{other}_hip"][0]) > abs(wrist[0] - keypoints[f"{other}_hip"][0]) + 0.1 * torso
        if distance(wrist, hip) > torso / 3 or not outwards:
            return False
    return True


def distance(a, b):
    return ((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) ** 0.5
