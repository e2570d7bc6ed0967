# SPDX-License-Identifier: Apache-2.0
"""Alembic's environment and the migrations of the System State."""
