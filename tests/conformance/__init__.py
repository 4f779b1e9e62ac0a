"""Runs the token cases against any receiver over HTTP, with the section that each one tests.

requirements  the rule of a specification that each case tests
requests      cases about the HTTP request
run           sends every case to a target and compares the status
report        the results as lines and as Markdown
__main__      the command line: `make conformance TARGET=URL`
"""
