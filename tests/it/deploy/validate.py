# SPDX-License-Identifier: Apache-2.0
"""Says what is wrong with Kubernetes objects by the schemas of a version: a JSON list of objects on
standard input, one line for each that is wrong; kinds of our own are somebody else's to judge."""

import json
import sys

import kubernetes_validate

for where, thing in json.load(sys.stdin):
    try:
        kubernetes_validate.validate(thing, sys.argv[1], strict=True)
    except kubernetes_validate.ValidationError as error:
        print(f"{where}: {error.message} at {list(error.path)}")
    except kubernetes_validate.SchemaNotFoundError as error:
        print(f"{where}: {error}")
