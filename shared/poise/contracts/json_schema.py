"""JSON Schemas of bodies: of what is accepted, and of what is written.

The two differ. A field with a default may be left out by whoever writes a request, and null stands for absent; what
Poise writes has every field that has a value, and no nulls.
"""

import json
from collections.abc import Iterable
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

Json = dict[str, Any]

DIALECT: Final = GenerateJsonSchema.schema_dialect


class StrictInputSchema(GenerateJsonSchema):
    """What a parser accepts that refuses unknown fields: what clients send."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """An object that has no other fields."""
        return super().model_schema(schema) | {"additionalProperties": False}

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """A default as text: some generators of clients ask for every field that has the keyword."""
        described = super().default_schema(schema)
        default = described.pop("default", None)
        if default not in (None, [], {}):
            told = f"{described.get('description', '')} Absent = `{json.dumps(default)}`.".strip()
            described["description"] = told
        return described


class OutputSchema(GenerateJsonSchema):
    """What `Message.encode` writes."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """An object that may have more fields one day; said, for some generators take silence for a no."""
        return super().model_schema(schema) | {"additionalProperties": True}

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """None is never written: the field is absent."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """A default means nothing to who reads: the value is there."""
        return self.generate_inner(schema["schema"])

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        """Every field is written, but for those that may be None."""
        schema: Any = field["schema"]
        return super().field_is_required(field, total) or schema.get("default", ...) is not None


def input_schema(model: type[BaseModel], *, strict: bool = False) -> Json:
    """The JSON Schema of what the parser of one model accepts.

    Args:
        model: The model.
        strict: Whether its parser refuses unknown fields.
    """
    return model.model_json_schema(schema_generator=StrictInputSchema if strict else GenerateJsonSchema)


def schema_components(
    models: Iterable[type[BaseModel]],
    generator: type[GenerateJsonSchema] = GenerateJsonSchema,
    mode: JsonSchemaMode = "validation",
) -> Json:
    """Schemas by name, of some models and of what they consist of, for `#/components/schemas` of a document."""
    _, found = models_json_schema(
        [(model, mode) for model in models],
        schema_generator=generator,
        ref_template="#/components/schemas/{model}",
    )
    schemas: Json = found.get("$defs", {})
    return schemas
