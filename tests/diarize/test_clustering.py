"""Voice prints to speakers: long calls, the shipped fit, and that no division is overlooked."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import numpy.typing as npt
import pytest
from scipy.cluster import hierarchy
from scipy.ndimage import convolve1d

from callanalytics.diarize.clustering import Speech, VoiceSpace, cluster_voices
from callanalytics.diarize.conversation import CONVERSATION_SHARE, Rhythm
from callanalytics.records import BoolArray, FloatArray

SPACE = VoiceSpace(15 * np.eye(192, 2, dtype=np.float32), np.full(2, 4.0, np.float32))


def prints_at(places: npt.ArrayLike, noise: float) -> FloatArray:
    """Prints (n, 192) of unit length about places (n, d)."""
    place = noise * np.random.default_rng(5).standard_normal((len(np.asarray(places)), 192))
    place[:, : np.shape(places)[1]] += places
    place[:, -1] += 1.0
    return (place / np.linalg.norm(place, axis=1, keepdims=True)).astype(np.float32)


def speech_of(prints: FloatArray, seconds: float) -> Speech:
    """Pieces of so many seconds, each after half a second of silence."""
    begin_s = (seconds + 0.5) * np.arange(len(prints))

    def whole(groups: BoolArray) -> FloatArray:
        return np.stack([prints[group].mean(axis=0) for group in groups])

    rhythm = Rhythm(begin_s, begin_s + seconds, np.arange(len(prints)) * 3, overlap_share=0.0)
    return Speech(prints, rhythm, SPACE, whole)


def test_of_a_long_call_every_piece_gets_its_voice_though_not_all_are_compared() -> None:
    """The voice of every piece beyond 1,500, too, follows from its own print."""
    whose = np.resize([0, 1, 1, 0, 1], 1600)
    speech = speech_of(prints_at(np.array([(0.0, 0.0), (0.6, 0.0)])[whose], 0.01), 1.0)
    found = cluster_voices(speech.prints, speech.rhythm, SPACE, speech.whole, CONVERSATION_SHARE)
    assert found.labels.tolist() == whose.tolist()


@pytest.mark.parametrize(("seconds", "n_voices"), [(1.2, 2), (4.0, 3)])
def test_voices_near_each_other_are_told_when_much_of_them_is_heard(seconds: float, n_voices: int) -> None:
    """Fifteen pieces in either case; six seconds of the third voice, which would be enough of one far off."""
    places = [(0.6, 0.0), (-0.6, 0.0), (-0.6, 0.07)] * 5
    found = speech_of(prints_at(places, 0.01), seconds).by_voice(CONVERSATION_SHARE)
    assert found.labels.max() + 1 == n_voices


def test_the_shipped_fit_is_of_prints_and_tells_a_voice_from_another() -> None:
    space = VoiceSpace.load()
    n_kept = len(space.between)
    assert space.projection.shape == (192, n_kept)
    assert (space.between > 0).all()
    one, other = prints_at(np.random.default_rng(1).standard_normal((2, 190)), 0.0)
    assert space.two_voices(one, 60.0, one, 60.0) < -5
    assert space.two_voices(one, 60.0, other, 60.0) > 5


def test_divisions_are_where_all_starts_end_and_no_others() -> None:
    """From prints without any voices, where nearly every start ends elsewhere; each way to take turns, 2^10,
    is worked out with its probability. Starts: Ward's two groups of the prints and of the prints blurred by
    their neighbours (1, 2, 1), and each group of a few against all others; the signs of the four leading
    components; the nearer of each two of seven small groups.
    """
    n = 10
    speech = speech_of(prints_at(np.random.default_rng(2).standard_normal((n, 12)) * 0.1, 0.0), 1.0)
    features = np.concatenate([speech.prints * np.sqrt(200), speech.prints @ SPACE.projection], axis=1)
    features = (features - features.mean(axis=0)).astype(np.float64)
    blurred = convolve1d(features, [0.25, 0.5, 0.25], axis=0, mode="wrap")
    starts = [column > 0 for column in np.linalg.svd(features)[0].T[:4]]
    trees = [hierarchy.ward(features), hierarchy.ward(blurred)]
    for tree, n_groups in product(trees, (2, 3, 4, 6, 8, 10, 14)):
        group = hierarchy.fcluster(tree, n_groups, "maxclust")
        starts += [group == k for k in np.unique(group)]
    seven = hierarchy.fcluster(trees[1], 7, "maxclust")
    seeds = [blurred[seven == k].mean(axis=0) for k in np.unique(seven)]
    for one, other in combinations(seeds, 2):
        starts.append(((features - one) ** 2).sum(axis=1) > ((features - other) ** 2).sum(axis=1))
    share = np.where(np.stack(starts)[..., None] == [False, True], 0.98, 0.02)
    paths = np.array(list(product((0, 1), repeat=n)))
    stay = speech.rhythm.stay
    log_path = np.log(np.where(np.diff(paths) == 0, stay, 1 - stay)).sum(axis=1)
    for _ in range(6):
        means = share.transpose(0, 2, 1) @ features / (share.sum(axis=1)[..., None] + 1)
        score = means @ features.T - 0.5 * (means**2).sum(axis=2, keepdims=True)
        log = log_path + score[:, paths, np.arange(n)].sum(axis=2)
        likely = np.exp(log - np.logaddexp.reduce(log, axis=1, keepdims=True))
        share = np.stack([likely @ (paths == k) for k in (0, 1)], axis=2)
    ends = share.argmax(axis=2)
    ends ^= ends[:, :1]
    expected = {tuple(row) for row in ends.tolist() if 3 <= sum(row) <= n - 3}
    assert {tuple(row.labels.tolist()) for row in speech.divisions()} == expected
    assert len(expected) > 10
