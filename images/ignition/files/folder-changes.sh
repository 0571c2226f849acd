# Run by bash in a guest: for each path on standard input, ended by a zero byte, what watches it hears of a change.
# Its mode becomes what it is: nothing else of it changes, neither here nor on the host.
while IFS= read -r -d '' path; do
    test -L "$path" || chmod --reference="$path" -- "$path" 2>/dev/null
done
