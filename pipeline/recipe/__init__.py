"""The recipe: a YAML file -> frozen values. The only place where a recipe is parsed.

``load`` reads a file, ``parse`` a document that is already read. Both return a ``Recipe`` in which short
forms are written out and overrides are merged, or raise a RequestError of one line.
"""

from pipeline.recipe.model import (
    STAGES,
    Bank,
    CandidateMaker,
    Data,
    Ensemble,
    FreshConfig,
    Limits,
    MethodUse,
    ModelNode,
    Recipe,
    ResourceBlock,
    StoreSettings,
    Student,
    TaskRecipe,
    TeacherSettings,
    Tracking,
)
from pipeline.recipe.reading import load, parse
from pipeline.recipe.reference import ITSELF, TEACHER, Reference

__all__ = [
    "ITSELF",
    "STAGES",
    "TEACHER",
    "Bank",
    "CandidateMaker",
    "Data",
    "Ensemble",
    "FreshConfig",
    "Limits",
    "MethodUse",
    "ModelNode",
    "Recipe",
    "Reference",
    "ResourceBlock",
    "StoreSettings",
    "Student",
    "TaskRecipe",
    "TeacherSettings",
    "Tracking",
    "load",
    "parse",
]
