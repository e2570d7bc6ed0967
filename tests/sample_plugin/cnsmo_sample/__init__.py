# SPDX-License-Identifier: Apache-2.0
"""A service and its drivers, as small as they can be: doc/authors.md walks through it.

What is installed beside CNSMO and has these entry points is part of it; here the tests put this
directory on PYTHONPATH instead.
"""
