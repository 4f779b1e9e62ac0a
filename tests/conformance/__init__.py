"""The cases of the tests against any receiver, over HTTP, each with its place in the specification.

requirements  which rule of which specification each case is about
requests      cases of the HTTP request, beside those of the token
run           sends every case to a target and compares the status
report        the results as lines and as Markdown
__main__      the command line: `make conformance TARGET=URL`
"""
