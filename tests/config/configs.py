"""Configurations made up by hypothesis: any that can be, small enough to tell what differs."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from serving_app.config import ModelConfig, ServingConfig
from serving_app.core.policies import All, Latest, Specific

VERSIONS = st.integers(0, 2**63 - 1)
TEXTS = st.text(min_size=1, max_size=6)
NAMES = st.sampled_from(["a", "b", "c", "d"]) | TEXTS

POLICIES = (
    st.builds(Latest, st.integers(0, 2**32 - 1))
    | st.just(All())
    | st.builds(Specific, st.lists(VERSIONS, max_size=3).map(tuple))
)

BASE_PATHS = st.builds(str.__add__, st.sampled_from(["/", "s3://b", "file:///", "gs://bucket/"]), TEXTS)

OPTIONS = st.dictionaries(
    st.sampled_from(["key", "secret", "endpoint_url", "client_kwargs", "anon"]),
    st.recursive(
        st.none() | st.booleans() | TEXTS | st.sampled_from(["http://me:word@host/x", "***"]),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["token", "region"]), inner),
        max_leaves=4,
    ),
    max_size=3,
)


def models(names: st.SearchStrategy[str] = NAMES) -> st.SearchStrategy[ModelConfig]:
    """Models whose settings of every kind differ: plain, with a group, with a mapping."""
    return st.builds(
        ModelConfig,
        name=names,
        base_path=BASE_PATHS,
        version_policy=POLICIES,
        labels=st.dictionaries(TEXTS, VERSIONS, max_size=2),
        replicas=st.none() | st.integers(1, 3),
        num_gpus=st.sampled_from([0.0, 0.5, 2.0]),
        storage_options=OPTIONS,
    )


def configs(**fixed: Any) -> st.SearchStrategy[ServingConfig]:
    """Configurations with up to three models; `fixed` are strategies for settings that are to be otherwise."""
    settings = {
        "models": st.lists(models(), max_size=3, unique_by=lambda model: model.name).map(tuple),
        "poll_interval_s": st.sampled_from([0.0, 1.0, 5.0]),
        "stores": st.dictionaries(st.sampled_from(["s3", "gs", "file"]), OPTIONS, max_size=2),
        "load": st.sampled_from([{}, {"quick_retries": 1}, {"max_concurrent_loads": 9}]),
        "state_uri": st.sampled_from([None, "/state"]),
    }
    return st.builds(ServingConfig, **{**settings, **fixed})
