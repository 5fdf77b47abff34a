"""JSON Schemas of bodies: of the accepted input, and of the output.

The two differ. In input, a field with a default is optional, and null means absent. Output has every field with a
value, and no nulls.
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
    """The schema of input from clients, where unknown fields are refused."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Return the schema of an object without other fields."""
        return super().model_schema(schema) | {"additionalProperties": False}

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Describe a default in text: some client generators require every field that has the keyword `default`."""
        described = super().default_schema(schema)
        default = described.pop("default", None)
        if default not in (None, [], {}):
            description = f"{described.get('description', '')} Absent = `{json.dumps(default)}`.".strip()
            described["description"] = description
        return described


class OutputSchema(GenerateJsonSchema):
    """The schema of the output of `Message.encode`."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Allow more fields explicitly: later versions may add some, and some generators assume that there are none."""
        return super().model_schema(schema) | {"additionalProperties": True}

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Return the schema without null: None is never written."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Return the schema without the default: output always has the value."""
        return self.generate_inner(schema["schema"])

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        """Return whether a field is always written: every field that cannot be None."""
        schema: Any = field["schema"]
        return super().field_is_required(field, total) or schema.get("default", ...) is not None


def input_schema(model: type[BaseModel], *, strict: bool = False) -> Json:
    """Return the JSON Schema of the input that a model accepts.

    Args:
        model: The model.
        strict: Whether unknown fields are refused.
    """
    return model.model_json_schema(schema_generator=StrictInputSchema if strict else GenerateJsonSchema)


def schema_components(
    models: Iterable[type[BaseModel]],
    generator: type[GenerateJsonSchema] = GenerateJsonSchema,
    mode: JsonSchemaMode = "validation",
) -> Json:
    """Return the schemas of models and of their parts, by name, for `#/components/schemas` of a document."""
    _, found = models_json_schema(
        [(model, mode) for model in models],
        schema_generator=generator,
        ref_template="#/components/schemas/{model}",
    )
    schemas: Json = found.get("$defs", {})
    return schemas
