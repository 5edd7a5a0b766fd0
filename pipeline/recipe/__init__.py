"""The recipe: a YAML file -> frozen values. The only place where a recipe is parsed.

``load`` reads a file, ``parse`` a document that is already read. Both return a ``Recipe`` in which short
forms are written out and overrides are merged, or raise a RequestError of one line.
"""

from pipeline.recipe.model import Ensemble, MaskedModel, MethodUse, ModelNode, Origin, Recipe, TaskRecipe
from pipeline.recipe.reading import load, parse
from pipeline.recipe.reference import BASE, ITSELF, TEACHER, Reference
from pipeline.recipe.schema.candidates import Bank, CandidateMaker
from pipeline.recipe.schema.file import Data, StoreSettings, TeacherSettings
from pipeline.recipe.schema.learners import Student
from pipeline.recipe.schema.limits import Limits, Tracking
from pipeline.recipe.schema.resources import STAGES, ResourceBlock
from pipeline.recipe.schema.starts import FreshConfig, LayerCut
from pipeline.recipe.search_settings import SearchSettings, ValueList, ValueRange

__all__ = [
    "BASE",
    "ITSELF",
    "STAGES",
    "TEACHER",
    "Bank",
    "CandidateMaker",
    "Data",
    "Ensemble",
    "FreshConfig",
    "LayerCut",
    "Limits",
    "MaskedModel",
    "MethodUse",
    "ModelNode",
    "Origin",
    "Recipe",
    "Reference",
    "ResourceBlock",
    "SearchSettings",
    "StoreSettings",
    "Student",
    "TaskRecipe",
    "TeacherSettings",
    "Tracking",
    "ValueList",
    "ValueRange",
    "load",
    "parse",
]
