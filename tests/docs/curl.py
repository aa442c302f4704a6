"""As much of curl as the pages use, for machines that have none: [-s] [-d BODY] URL."""

import sys
import urllib.error
import urllib.request

arguments = [argument for argument in sys.argv[1:] if argument != "-s"]
body = arguments.pop(arguments.index("-d") + 1).encode() if "-d" in arguments else None
request = urllib.request.Request(arguments[-1], data=body)
try:
    answer = urllib.request.urlopen(request)
except urllib.error.HTTPError as error:
    answer = error
with answer:
    sys.stdout.buffer.write(answer.read())
