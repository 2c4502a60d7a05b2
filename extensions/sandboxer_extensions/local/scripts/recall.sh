# recall.sh ...: print what encloses the running sandbox.
own "$record"
alive || transient "The sandbox does not run."
level=${line#*\"level\":\"}
echo "${level%%\"*}"
